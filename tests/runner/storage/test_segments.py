"""The ledger in pieces: those that follow each other make it, whatever else lies there."""

from runner.storage.segments import Segment, chain, found, whole_lines

DATA = b"".join(b'{"record": %d}\n' % number for number in range(40))


def seal(start: int, end: int) -> Segment:
    return Segment.of(DATA[start:end], start)


def sizes(*segments: Segment) -> dict[str, int]:
    return {one.name: one.end - one.start for one in segments}


def test_segments_are_found_by_name_and_follow_each_other() -> None:
    pieces = [seal(0, 15), seal(15, 60), seal(60, 100)]
    listed = sizes(*reversed(pieces)) | {"predictions/a.b.parquet": 3, "ledger/readme.txt": 1}
    assert found(listed) == pieces
    assert chain(found(listed)) == pieces


def test_a_gap_ends_the_chain() -> None:
    pieces = [seal(0, 15), seal(60, 100)]
    assert chain(pieces) == pieces[:1]
    assert chain(pieces[1:]) == []


def test_a_torn_object_does_not_count() -> None:
    pieces = [seal(0, 15), seal(15, 60)]
    assert found(sizes(*pieces) | {pieces[1].name: 44}) == pieces[:1]


def test_a_merged_segment_replaces_those_it_covers_even_half_way_through_their_removal() -> None:
    merged, rest = seal(0, 60), seal(60, 100)
    assert chain([seal(0, 15), seal(15, 60), merged, rest]) == [merged, rest]
    assert chain([seal(15, 60), merged, rest]) == [merged, rest]


def test_a_segment_knows_its_bytes() -> None:
    one = seal(15, 60)
    assert one.holds(DATA[15:60])
    assert not one.holds(DATA[15:59] + b"?")
    assert whole_lines(DATA + b'{"rec') == DATA
    assert whole_lines(b'{"rec') == b""
