"""A writer of one endpoint's subject: claims, goes on behind itself, and stops behind another one."""

from __future__ import annotations

from wsadapter.cluster.fence import Claim, Fence, Tail

OLD = Tail(7, 2, 100, "old")


def test_a_claim_that_is_appended_goes_on_behind_the_old_holder() -> None:
    fence = Fence("me", 3, "mine", OLD)
    assert (fence.state, fence.tail) == (Claim.CLAIMING, OLD)
    fence.appended(8, 100)
    assert (fence.state, fence.tail) == (Claim.WRITING, Tail(8, 3, 100, "me", "mine"))


def test_a_claim_that_the_old_holder_was_faster_than_is_made_again_behind_its_last_word() -> None:
    fence = Fence("me", 3, "mine", OLD)
    fence.refused(Tail(8, 2, 120, "old"))
    assert (fence.state, fence.tail.sequence, fence.tail.number) == (Claim.CLAIMING, 8, 120)


def test_a_higher_term_ends_the_writer_before_and_after_its_claim() -> None:
    assert Fence("me", 3, "mine", Tail(7, 4, 1, "new")).state is Claim.LOST
    claiming = Fence("me", 3, "mine", OLD)
    claiming.refused(Tail(8, 4, 1, "new"))
    assert claiming.state is Claim.LOST


def test_a_writer_that_is_refused_by_another_one_of_its_own_term_does_not_write_behind_it() -> None:
    fence = Fence("me", 3, "mine", OLD)
    fence.appended(8, 100)
    fence.refused(Tail(9, 3, 101, "the process before this one", "mine"))
    assert fence.state is Claim.LOST


def test_an_append_whose_answer_was_lost_counts() -> None:
    fence = Fence("me", 3, "mine", OLD)
    fence.appended(8, 100)
    fence.refused(Tail(9, 3, 110, "me", "mine"))
    assert (fence.state, fence.tail) == (Claim.WRITING, Tail(9, 3, 110, "me", "mine"))


def test_an_append_that_is_not_there_is_sent_again_with_the_same_sequence() -> None:
    fence = Fence("me", 3, "mine", OLD)
    fence.appended(8, 100)
    fence.refused(Tail(8, 3, 100, "me", "mine"))
    assert (fence.state, fence.tail.sequence) == (Claim.WRITING, 8)


def test_a_term_that_was_given_twice_is_not_used_again() -> None:
    assert Fence("me", 3, "mine", Tail(7, 3, 1, "other", "before the bucket was lost")).state is Claim.LOST
    claiming = Fence("me", 3, "mine", OLD)
    claiming.refused(Tail(8, 3, 1, "other", "another lease"))
    assert claiming.state is Claim.LOST
    goes_on = Fence("me", 3, "mine", Tail(7, 3, 1, "the process before this one", "mine"))
    assert goes_on.state is Claim.CLAIMING
