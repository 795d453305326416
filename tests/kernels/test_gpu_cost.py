"""The model of cycles, on loops whose cycles can be counted by hand."""

import pytest

from streamdrnn.kernels import gpu
from tests.kernels.cases import needs_triton

pytestmark = needs_triton

if not gpu.why_not():
    from streamdrnn.kernels.gpu.cost import LATENCY, Instruction, loop_of, main, predict, simulate

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
    assert loop_of(SASS) == [
        Instruction("LDG", 1, 2, None, ()),
        Instruction("FFMA", 5, None, None, (2,)),
        Instruction("BAR", 6, None, None, ()),
        Instruction("BRA", 5, None, None, ()),
    ]


@pytest.mark.full
def test_nine_layers_of_20_are_predicted_as_they_were() -> None:
    """More would be a loss that nobody asked for; fewer are welcome, and become the new bound."""
    for direction, save, most in (("forward", False, 585), ("forward", True, 620), ("backward", True, 650)):
        found = predict("gru", 9, 20, direction, save)
        assert (found.spilled, found.shared) == (0, 0)
        assert found.near <= most


@pytest.mark.parametrize("wanted", [("gru2", "9", "20"), ("gru", "9"), ("gru", "nine", "20"), ("gru", "-9", "20")])
def test_a_wrong_call_is_one_line(wanted: tuple[str, ...]) -> None:
    with pytest.raises(SystemExit, match=r"^cost: expected CELL LAYERS UNITS, such as gru 9 20"):
        main(*wanted)
