"""Quick calls: their text, and what they leave to the careful way."""

import numpy as np
import pytest

import graphc
from graphc import SGD, FeedError, Input, Param, Trainer
from graphc.quick_call import quick_text

TEXT = """\
def quick(feeds, number_0=None):
    if len(feeds) != 2:
        return None
    try:
        input_0 = feeds['x']
        owner = input_0.base
        if owner is None:
            owner = input_0
        elif type(owner) is not ndarray or owner.base is not None:
            return None
        if owner is block_0:
            return None
        input_1 = feeds["it's"]
        owner = input_1.base
        if owner is None:
            owner = input_1
        elif type(owner) is not ndarray or owner.base is not None:
            return None
        if owner is block_0:
            return None
        function, more = known[(input_0.shape, input_1.shape,)]
        result = function(input_0, input_1, number_0, block_0, *more)
    except (KeyError, AttributeError, TypeError):
        return None
    except IndexError as error:
        raise out_of_range(error) from error
    output_0, output_1, output_2 = result
    return (one_0 * output_0, output_1, scalar_2(output_2),)
"""


def test_the_text():
    assert quick_text(["x", "it's"], 1, 1, [np.float32, None, np.bool_], updates=True) == TEXT
    assert "owner" not in quick_text(["x"], 0, 2, [None], updates=False)
    assert quick_text(["x"], 0, 1, [], updates=True).endswith("    return ()\n")


@pytest.fixture(scope="module")
def trainer():
    x, w = Input(("N", 3), "float32", "x"), Param(np.ones(3, np.float32), name="w")
    return Trainer(np.mean((x @ w) ** 2), SGD(0.5))


def test_second_calls_agree_with_first_ones(trainer):
    feeds = np.linspace(-1, 1, 12, dtype=np.float32).reshape(4, 3)
    results = []
    for _ in range(3):
        trainer.params["w"] = np.ones(3)
        results.append((trainer.step(x=feeds), trainer.params["w"].copy()))
    for loss, w in results:
        assert type(loss) is np.float32 and loss == results[0][0]
        np.testing.assert_array_equal(w, results[0][1])


WRONG = np.ones((4, 2), np.float32), np.ones(3, np.float32), "text", np.ones((4, 3), complex)


@pytest.mark.parametrize("wrong", WRONG)
def test_what_does_not_fit_is_refused_after_a_call_that_did(trainer, wrong):
    trainer.step(x=np.ones((4, 3), np.float32))
    with pytest.raises(FeedError):
        trainer.step(x=wrong)
    with pytest.raises(FeedError, match="missing feed: x"):
        trainer.step()
    with pytest.raises(FeedError, match="no input named 'y'"):
        trainer.step(x=np.ones((4, 3), np.float32), y=1)


@pytest.mark.parametrize("convert", [np.asfortranarray, lambda x: x.astype(np.float64), lambda x: x[:, ::-1]])
def test_what_needs_preparation_gets_it(trainer, convert):
    feeds = np.linspace(-1, 1, 12, dtype=np.float32).reshape(4, 3)
    trainer.step(x=feeds)
    converted = convert(feeds)
    expected = np.mean((converted.astype(np.float32) @ trainer.params["w"]) ** 2)
    assert trainer.step(x=converted) == pytest.approx(expected, rel=1e-5)


def test_inputs_in_updated_memory_are_read_before_it_changes():
    x, w = Input((999,), "float64", "x"), Param(np.linspace(0, 1, 999), name="w")
    program = graphc.compile(np.sum(x * w), updates={w: 2 * x[::-1] + w})
    strided = np.lib.stride_tricks.as_strided
    for view in (np.asarray, np.asarray, lambda w: strided(w)[:], lambda w: np.asarray(memoryview(w))[:]):
        live, before = view(program.params["w"]), program.params["w"].copy()
        assert program(x=live) == pytest.approx(before @ before)
        np.testing.assert_array_equal(program.params["w"], 2 * before[::-1] + before)


def test_an_index_out_of_range_says_so_in_a_quick_call():
    k, table = Input(("N",), "int64", "k"), Param(np.arange(4.0), name="table")
    program = graphc.compile(np.sum(table[k]))
    assert program(k=np.array([1, 2])) == program(k=np.array([2, 1])) == 3
    with pytest.raises(FeedError, match="k: index out of range for an axis of size 4"):
        program(k=np.array([1, 4]))
