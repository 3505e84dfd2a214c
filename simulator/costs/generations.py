"""GPU generations and how near they are: a device without constants borrows from the nearest one."""

#: generation -> every other one, nearest first. Near are those whose matrix units take the same kind of
#: instruction: one warp's (Volta to Ada, and the RTX line of Blackwell), a warp group's (Hopper), one
#: thread's on tensor memory (Blackwell). Within a kind the next generation comes first, of two the newer one.
_NEAREST = {
    "volta": ("turing", "ampere", "ada", "blackwell_rtx", "hopper", "blackwell"),
    "turing": ("ampere", "volta", "ada", "blackwell_rtx", "hopper", "blackwell"),
    "ampere": ("ada", "blackwell_rtx", "turing", "volta", "hopper", "blackwell"),
    "ada": ("ampere", "blackwell_rtx", "turing", "volta", "hopper", "blackwell"),
    "blackwell_rtx": ("ada", "ampere", "turing", "volta", "hopper", "blackwell"),
    "hopper": ("blackwell", "ampere", "ada", "blackwell_rtx", "turing", "volta"),
    "blackwell": ("hopper", "blackwell_rtx", "ada", "ampere", "turing", "volta"),
}

#: where an architecture that is none of these looks: the newest generation with kernels of every dtype first
_NEAREST_OF_OTHERS = ("blackwell", "hopper", "blackwell_rtx", "ada", "ampere", "turing", "volta")

GENERATIONS = tuple(_NEAREST)


def distance(architecture: str, known: str) -> int:
    """0 for the same architecture, then how far down the list of nearest ones `known` stands.

    An architecture that is no generation of these, such as another vendor's, is farther than all of them.
    """
    if architecture == known:
        return 0
    nearest = _NEAREST.get(architecture, _NEAREST_OF_OTHERS)
    return 1 + (nearest.index(known) if known in nearest else len(nearest))
