"""The book of waiting requests, and what becomes of one whose client goes away at the wrong moment."""

from __future__ import annotations

import threading
import time

import numpy as np
import pytest

from sottovoce.engine.errors import PeerClosedError
from sottovoce.engine.protocols.table import find
from sottovoce.serving.desk import ClientDesk
from sottovoce.serving.messages import MAX_QUEUED_BYTES, Offer, Request
from sottovoce.serving.requests import ABANDONED, MAX_QUEUE, Pending, RequestBook
from tests.serving.deployment import tiny_model


def pending(number: int = 0, client: str = "client alice") -> Pending:
    """A request with a one-byte share."""
    return Pending(client, Request(bytes([number]) * 16, 1, "label"), [np.zeros(1, np.uint8)])


def test_requests_are_taken_once_in_order_or_by_key() -> None:
    book, requests = RequestBook(), [pending(n) for n in range(3)]
    assert [book.add(r) for r in requests] == ["", "", ""]
    assert book.take(requests[1].key, 0) is requests[1]
    assert book.oldest(0) is requests[0]
    book.put_back(requests[0])
    assert [book.oldest(0), book.oldest(0), book.oldest(0)] == [requests[2], requests[0], None]
    assert book.take((requests[1].client, bytes([9]) * 16), 0) is None


def test_one_id_of_two_clients_is_two_requests() -> None:
    book, alice, mallory = RequestBook(), pending(), pending(client="client mallory")
    assert book.add(alice) == book.add(mallory) == ""
    assert "waiting already" in book.add(pending())
    assert book.take(alice.key, 0) is alice


def test_places_and_memory_are_bounded() -> None:
    book = RequestBook()
    assert all(book.add(pending(n)) == "" for n in range(MAX_QUEUE))
    assert "busy" in book.add(pending(MAX_QUEUE))
    assert book.reserve(MAX_QUEUED_BYTES)
    assert not book.reserve(1)
    book.release(1)
    assert book.reserve(1)


def test_an_abandoned_request_that_waits_ends() -> None:
    book, request = RequestBook(), pending()
    book.add(request)
    book.abandon(request)
    assert request.done.is_set()
    assert request.error == ABANDONED
    assert book.take(request.key, 0) is None
    assert book.oldest(0) is None


def test_an_abandoned_request_that_was_taken_keeps_its_share_and_is_not_put_back() -> None:
    book, request = RequestBook(), pending()
    book.add(request)
    assert book.oldest(0) is request
    book.abandon(request)
    assert not request.done.is_set()
    assert len(request.slots) == 1
    book.put_back(request)
    assert request.error == ABANDONED
    assert book.oldest(0) is None


def test_old_requests_expire_and_a_closed_book_ends_all() -> None:
    book, old, new = RequestBook(), pending(0), pending(1)
    book.add(old)
    book.add(new)
    new.arrived = time.monotonic() + 60
    book.expire(0.0, "too late")
    assert (old.error, new.done.is_set()) == ("too late", False)
    book.close("over")
    assert new.error == book.add(pending(2)) == "over"


class GoneConnection:
    """A client that is found to be gone as soon as its party looks."""

    def check_open(self, where: str) -> None:
        """Say so."""
        raise PeerClosedError(f"{where}: gone")


def test_a_client_that_goes_while_its_request_is_taken_does_not_take_the_share_away() -> None:
    book, request, row, program = RequestBook(), pending(), find("rep3"), tiny_model().program
    offer = Offer(0, "rep3", bytes(16), b"", True)
    desk = ClientDesk(row, program, offer, book, deadline_s=1.0, log=lambda text: None)
    taken: list[Pending | None] = []
    sequencer = threading.Thread(target=lambda: taken.append(book.take(request.key, 5.0)))
    sequencer.start()
    with pytest.raises(PeerClosedError):
        desk._answer(GoneConnection(), request)  # type: ignore[arg-type]
    sequencer.join()
    assert taken == [request]
    assert len(request.slots) == 1, "the parties are about to run it"
