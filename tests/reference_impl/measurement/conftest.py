from importlib.util import find_spec

#: nothing here can be imported without the reference extra
collect_ignore_glob = [] if find_spec("torch") else ["test_*.py"]
