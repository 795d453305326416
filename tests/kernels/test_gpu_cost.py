"""The model of cycles, on loops whose cycles can be counted by hand."""

from streamdrnn.kernels import gpu
from tests.kernels.cases import needs_triton

pytestmark = needs_triton

if not gpu.why_not():
    from streamdrnn.kernels.gpu.cost import LATENCY, Instruction, one_turn, simulate

BARRIER = Instruction("BAR", 1, None, None, ())


def test_a_warp_waits_for_its_own_loads() -> None:
    load, use = Instruction("LDG", 1, 0, None, ()), Instruction("FADD", 4, None, None, (0,))
    assert simulate([load, use], 1, 100) == 1 + 100 + 4
    assert simulate([load._replace(result=1), use], 1, 100) == 1 + 4, "it waits for another counter"


def test_warps_of_one_scheduler_take_turns_and_those_of_others_do_not_wait() -> None:
    loop = [Instruction("FFMA", 1, None, None, ())] * 50 + [BARRIER]
    alone = simulate(loop, 1, 100)
    assert alone == 50 + LATENCY["BAR"]
    assert simulate(loop, 4, 100) == alone
    assert alone + 45 <= simulate(loop, 8, 100) <= alone + 55


def test_a_unit_with_few_lanes_is_busy_with_a_warp() -> None:
    loop = [Instruction("MUFU", 1, None, None, ())] * 10
    assert simulate(loop, 1, 100) == 10 * 8


SASS = """
.L_x_1:
        /*0010*/                   LDG.E.128 R4, desc[UR6][R2.64] ;          /* 0x0000000602047981 */
          /* 0x000ea2000c1e1d00 */
        /*0020*/              @!P0 FFMA R4, R4, R5, R6 ;          /* 0x0000000504047223 */
          /* 0x004fca0000000006 */
        /*0030*/                   BAR.SYNC.DEFER_BLOCKING 0x0 ;          /* 0x0000000000007b1d */
          /* 0x000fec0000010000 */
        /*0040*/               @P0 BRA `(.L_x_1) ;          /* 0xfffffffc00f00947 */
          /* 0x000fea000383ffff */
.L_x_2:
        /*0050*/                   BRA `(.L_x_2);          /* 0xfffffffc00fc7947 */
          /* 0x000fc0000383ffff */
"""


def test_the_loop_is_found_with_how_its_instructions_wait() -> None:
    assert one_turn(SASS) == [
        Instruction("LDG", 1, 2, None, ()),
        Instruction("FFMA", 5, None, None, (2,)),
        Instruction("BAR", 6, None, None, ()),
        Instruction("BRA", 5, None, None, ()),
    ]


def line(text: str) -> str:
    return f"        /*0010*/           {text} ;      /* 0x0000000602047981 */\n          /* 0x000ea2000c1e1d00 */\n"


def nested(*inner: str) -> str:
    """A loop over the loops."""
    return f".L_x_1:\n{line('FADD R1, R1, R2')}{''.join(inner)}{line('@P0 BRA `(.L_x_1)')}"


def loop(number: int, *lines: str) -> str:
    return f".L_x_{number}:\n{''.join(lines)}{line(f'BRA `(.L_x_{number})')}"


def test_loops_in_the_loop_are_gone_through_as_often_as_they_are() -> None:
    """Those beside a deeper one are of its kind; where a loop is missing, another has become of it and the next."""
    pieces = loop(3, line("FFMA R1, R1, R1, R1"))
    tiles, copies = loop(2, line("MUFU.EX2 R1, R1"), pieces), loop(4, line("STG.E [R2.64], R1"))

    def count(sass: str, *trips: int) -> dict[str, int]:
        names = [one.name for one in one_turn(sass, trips)]
        return {name: names.count(name) for name in ("FADD", "FFMA", "MUFU", "STG")}

    assert count(nested(tiles, copies), 3, 5) == {"FADD": 1, "FFMA": 15, "MUFU": 3, "STG": 3}
    assert count(nested(pieces), 3, 5) == {"FADD": 1, "FFMA": 15, "MUFU": 0, "STG": 0}
    assert count(nested(), 3, 5) == {"FADD": 1, "FFMA": 0, "MUFU": 0, "STG": 0}


def test_a_wait_for_copies_leaves_the_last_groups_on_their_way() -> None:
    copy, close = Instruction("LDGSTS", 1, None, None, ()), Instruction("LDGDEPBAR", 1, None, None, ())
    wait = Instruction("DEPBAR", 1, None, None, (), behind=0)
    assert simulate([copy, close, wait], 1, 100) > 100
    assert simulate([copy, close, wait._replace(behind=1)] * 2, 1, 100) < 2 * 60 + 20
