"""Dumps of every shape: whole, packed, scattered, broken, cut off."""

from collections.abc import Callable
from pathlib import Path

import pytest
from py7zr import FILTER_LZMA2, SevenZipFile

from envfarm.core.candidate import Rejection
from envfarm.core.errors import SourceError
from envfarm.core.question import Question
from envfarm.testing.question_dump import answer, question, row, table, write_large
from task_builders.sources import dump_files, id_marks, stackexchange_dump
from task_builders.sources.clone import silent
from task_builders.sources.source_models import StackexchangeDumpSource
from task_builders.sources.xml_rows import LONGEST_BYTES, Fault, RowParser

Outcomes = list[Question | Rejection]
Reader = Callable[..., Outcomes]


@pytest.fixture
def read(tmp_path: Path) -> Reader:
    """Reads a dump; what was yielded before an error is in the fixture's list."""

    def reader(path: Path, outcomes: Outcomes | None = None, **wanted: object) -> Outcomes:
        found = outcomes if outcomes is not None else []
        source = StackexchangeDumpSource.model_validate({"path": str(path), **wanted})
        found.extend(stackexchange_dump.read(source, tmp_path / "indexes", silent))
        return found

    return reader


def write(path: Path, *rows: dict[str, object] | str, name: str = "posts") -> Path:
    path.write_text(table(rows, name), encoding="utf-8")
    return path


def questions(outcomes: Outcomes) -> list[Question]:
    return [each for each in outcomes if isinstance(each, Question)]


def test_a_question_comes_with_its_accepted_answer_first_and_the_others_by_score(tmp_path: Path, read: Reader) -> None:
    file = write(
        tmp_path / "Posts.xml",
        question(1, accepted=4, Tags="<awk><linux>", Body="<p>a &amp;lt; b</p>\n"),
        answer(2, 1, Score=1),
        answer(3, 1, Score=9),
        answer(4, 1, Score=0),
    )
    (found,) = questions(read(file))
    assert [a.id for a in found.answers] == [4, 3, 2]
    assert [a.accepted for a in found.answers] == [True, False, False]
    assert found.tags == ("awk", "linux")
    assert found.body == "<p>a &amp;lt; b</p>\n"
    assert (found.url, found.answers[0].credit.url) == ("https://stackoverflow.com/q/1", "https://stackoverflow.com/a/4")


def test_an_answer_may_come_before_its_question_and_far_from_it(tmp_path: Path, read: Reader) -> None:
    others = [question(n, Tags="<java>") for n in range(100, 200)]
    file = write(tmp_path / "Posts.xml", answer(2, 50), *others, question(50, accepted=3), answer(3, 50), answer(4, 100))
    (found,) = questions(read(file, tags=["awk"]))
    assert [a.id for a in found.answers] == [3, 2]


@pytest.mark.parametrize(
    ("wanted", "ids"), [({"tags": ["sed"]}, [2]), ({"min_score": 6}, [3]), ({"since": "2020-01-01"}, [4]), ({"limit": 1}, [1])]
)
def test_a_choice_is_by_tag_score_date_and_number(tmp_path: Path, read: Reader, wanted: dict[str, object], ids: list[int]) -> None:
    changed: dict[int, dict[str, object]] = {1: {}, 2: {"Tags": "|awk|sed|"}, 3: {"Score": 6}, 4: {"CreationDate": "2020-05-01T00:00:00"}}
    rows = [r for n, more in changed.items() for r in (question(n, accepted=10 + n, **more), answer(10 + n, n))]
    assert [q.id for q in questions(read(write(tmp_path / "Posts.xml", *rows), **wanted))] == ids


@pytest.mark.parametrize(
    ("name", "site"),
    [
        ("unix.stackexchange.com/Posts.xml", "unix.stackexchange.com"),
        ("Posts-of-Ask-Ubuntu/askubuntu.com-Posts.xml", "askubuntu.com"),
        ("superuser.com/ru.stackoverflow.com.xml", "ru.stackoverflow.com"),
        ("stackexchange.com/Posts.xml", "stackoverflow.com"),
        ("a-stackoverflow.com/superuser.com2.xml", "stackoverflow.com"),
    ],
)
def test_a_dump_that_is_named_after_another_site_is_refused(tmp_path: Path, read: Reader, name: str, site: str) -> None:
    (tmp_path / name).parent.mkdir()
    file = write(tmp_path / name, question(1, accepted=2), answer(2, 1))
    (found,) = questions(read(file, site=site))
    assert found.url == f"https://{site}/q/1"
    if site != "stackoverflow.com":  # a key that is not given
        with pytest.raises(SourceError, match=rf"is the dump of {site} by its name, and `site` is stackoverflow\.com") as told:
            read(file)
        assert f'site = "{site}"' in told.value.hint


@pytest.mark.parametrize(
    ("more", "licence"),
    [
        ({"ContentLicense": "CC BY-SA 3.0"}, "CC-BY-SA-3.0"),
        ({"CreationDate": "2011-04-07T23:59:59"}, "CC-BY-SA-2.5"),
        ({"CreationDate": "2011-04-08T00:00:00"}, "CC-BY-SA-3.0"),
        ({"CreationDate": "2018-05-02T00:00:00"}, "CC-BY-SA-4.0"),
        ({"CreationDate": ""}, "CC-BY-SA-2.5+"),
    ],
)
def test_the_licence_is_what_the_row_says_or_its_date(tmp_path: Path, read: Reader, more: dict[str, object], licence: str) -> None:
    (found,) = questions(read(write(tmp_path / "Posts.xml", question(1, accepted=2, **more), answer(2, 1))))
    assert found.credit.licence == licence


def test_users_and_history_say_who_wrote_and_who_edited(tmp_path: Path, read: Reader) -> None:
    asked = question(1, accepted=2, OwnerUserId=7)
    file = write(tmp_path / "Posts.xml", asked, answer(2, 1, CreationDate=""))
    write(tmp_path / "Users.xml", *({"Id": n, "DisplayName": name} for n, name in ((7, "Ann"), (8, "Bo"), (9, "Cy"))), name="users")
    events = (
        ("2", 1, 7, "2019-01-01"),
        ("5", 1, 8, "2019-01-02"),
        ("2", 2, 9, "2019-01-03"),
        ("5", 2, 9, "2019-01-04"),
        ("4", 1, 9, "2019"),
    )
    rows = [{"Id": n, "PostHistoryTypeId": k, "PostId": p, "UserId": u, "CreationDate": at} for n, (k, p, u, at) in enumerate(events)]
    write(tmp_path / "PostHistory.xml", *rows, name="posthistory")
    (found,) = questions(read(file))
    assert (found.credit.author, found.credit.editors) == ("Ann", ("Bo",))
    assert found.credit.author_url == "https://stackoverflow.com/users/7"
    given = found.answers[0].credit
    assert (given.author, given.editors, given.licence) == ("Cy", (), "CC-BY-SA-4.0")
    assert given.created_at is not None


def test_rows_that_lack_something_are_told_and_the_others_are_there(tmp_path: Path, read: Reader) -> None:
    rows = (
        row({"Id": 10, "PostTypeId": 1, "AcceptedAnswerId": 2, "Tags": "<awk>"}),
        row({"PostTypeId": 2, "ParentId": 1, "Body": "x"}),
        row({"Id": 11, "Body": "x"}),
        row({"Id": "eleven", "PostTypeId": 1, "Body": "x"}),
        row({"Id": 12, "PostTypeId": 5}),
        row(question(1, accepted=2)),
    )
    found = read(write(tmp_path / "Posts.xml", question(1, accepted=2), answer(2, 1), question(3, accepted=99), *rows))
    assert [q.id for q in questions(found)] == [1]
    told = [(r.reason, r.detail) for r in found if isinstance(r, Rejection)]
    unreadable = [
        "a row without Body",
        "a row without Id",
        "a row without PostTypeId",
        "a row whose ids are no numbers",
        "a row that repeats an Id",
    ]
    assert told == [(stackexchange_dump.UNREADABLE, why) for why in unreadable] + [
        (stackexchange_dump.NO_ACCEPTED_ANSWER, "of 0 answers none is 99")
    ]


@pytest.mark.parametrize(
    "broken",
    [
        '  <row Id="7" PostTypeId="1" Body="never closed />\n',
        '  <row Id="7" PostTypeId="1" Body="&#x1;" />\n',
        '  <row Id="7" PostTypeId="1" Body="&nbsp;" />\n',
        '  <row Id="7" Id="8" PostTypeId="1" Body="" />\n',
        '  <row Id="7" PostTypeId="1" Body=no />\n',
        '  <row Id="7"\n',
        "  </posts>\n",
        "  & \n",
    ],
)
@pytest.mark.parametrize("chunk", [1, 7, 1 << 18])
def test_a_broken_row_is_told_once_and_reading_goes_on_with_the_next(broken: str, chunk: int) -> None:
    rows, faults = list[str](), list[Fault]()
    parser = RowParser(lambda _, attributes: rows.append(attributes["Id"]), faults.append)
    text = table([row({"Id": 1}), row({"Id": 2}), broken, row({"Id": 3}), row({"Id": 4}), broken, row({"Id": 5})]).encode()
    for at in range(0, len(text), chunk):
        parser.feed(text[at : at + chunk])
    parser.close()
    assert rows == ["1", "2", "3", "4", "5"]
    assert 2 <= len(faults) <= 3  # two broken ends of the table make the last one superfluous


def test_bytes_that_are_no_utf_8_break_one_row_alone() -> None:
    rows, faults = list[str](), list[Fault]()
    parser = RowParser(lambda _, attributes: rows.append(attributes["Id"]), faults.append)
    parser.feed(b'<posts>\n<row Id="1" />\n<row Id="2" Body="\xff\xfe" />\n<row Id="3" />\n</posts>')
    parser.close()
    assert (rows, len(faults)) == (["1", "3"], 1)


@pytest.mark.parametrize("begun", ['<row Id="2" Body="', "<!-- ", "<?remark ", "<row ", "<![CDATA["])
@pytest.mark.parametrize("chunk_bytes", [1 << 18, 1 << 23])
def test_what_does_not_end_is_a_fault_and_the_rows_behind_it_are_read(begun: str, chunk_bytes: int) -> None:
    rows: list[str] = []
    faults: list[Fault] = []
    parser = RowParser(lambda _, attributes: rows.append(attributes["Id"]), faults.append)
    text = f'<posts><row Id="1"/>{begun}{" " * 2 * LONGEST_BYTES}<row Id="3"/><row Id="4"/></posts>'.encode()
    for at in range(0, len(text), chunk_bytes):
        parser.feed(text[at : at + chunk_bytes])
    parser.close()
    assert rows == ["1", "3", "4"]
    assert [fault.where for fault in faults] == ["byte 20"]


def test_rows_inside_of_a_remark_that_does_not_end_are_read() -> None:
    rows: list[str] = []
    faults: list[Fault] = []
    parser = RowParser(lambda _, attributes: rows.append(attributes["Id"]), faults.append)
    every = LONGEST_BYTES // 100 + 10
    inside = "".join(f'<row Id="{n}" Body="{"x" * 90}"/>' for n in range(1, every))
    text = f'<posts><row Id="0"/><!-- {inside}'.encode()
    for at in range(0, len(text), 1 << 18):
        parser.feed(text[at : at + (1 << 18)])
    parser.close()
    assert rows == [str(n) for n in range(every)]
    assert len(faults) == 2  # the remark, and the root that it hid the end of
    assert faults[1].is_cut_off


HUGE = "9" * 20


@pytest.mark.parametrize(
    "bad",
    [
        row({"Id": HUGE, "PostTypeId": 1, "AcceptedAnswerId": 2, "Title": "t", "Body": "b"}),
        row({"Id": 5, "PostTypeId": 2, "ParentId": HUGE, "Body": "b"}),
        row({"Id": "²", "PostTypeId": 1, "AcceptedAnswerId": 2, "Title": "t", "Body": "b"}),
        row({"Id": "-5", "PostTypeId": 2, "ParentId": 1, "Body": "b"}),
    ],
)
def test_ids_that_no_database_takes_are_told(tmp_path: Path, read: Reader, bad: str) -> None:
    found = read(write(tmp_path / "Posts.xml", question(1, accepted=2), bad, answer(2, 1)))
    assert [r.detail for r in found if isinstance(r, Rejection)] == ["a row whose ids are no numbers"]
    assert len(questions(found)) == 1


@pytest.mark.parametrize("odd", ["²", HUGE, "x"])
def test_odd_ids_of_users_and_events_name_nobody(tmp_path: Path, read: Reader, odd: str) -> None:
    file = write(tmp_path / "Posts.xml", question(1, accepted=2, OwnerUserId=odd, OwnerDisplayName=""), answer(2, 1))
    write(tmp_path / "Users.xml", {"Id": odd, "DisplayName": "Ann"}, name="users")
    events = ({"Id": 1, "PostHistoryTypeId": 5, "PostId": 1, "UserId": odd}, {"Id": 2, "PostHistoryTypeId": 5, "PostId": odd, "UserId": 7})
    write(tmp_path / "PostHistory.xml", *events, name="posthistory")
    (found,) = questions(read(file))
    assert (found.credit.author, found.credit.author_url, found.credit.editors) == ("", "", ())


def test_an_accepted_answer_with_an_odd_id_is_not_there(tmp_path: Path, read: Reader) -> None:
    found = read(write(tmp_path / "Posts.xml", question(1, accepted=2, AcceptedAnswerId="²"), answer(2, 1)))
    assert [r.reason for r in found if isinstance(r, Rejection)] == [stackexchange_dump.NO_ACCEPTED_ANSWER]


def test_scattered_ids_take_no_more_memory_than_is_for_them() -> None:
    marks = id_marks.IdMarks(max_pages=3)
    for n in range(3):
        marks.put(n * 1_000_000, 1)
        marks.put(n * 1_000_000 + 1, 2)
    with pytest.raises(SourceError, match="scattered"):
        marks.put(5_000_000, 1)
    assert marks.of(2_000_001) == 2


def test_a_file_that_is_cut_off_yields_what_came_before_and_then_the_error(tmp_path: Path, read: Reader) -> None:
    whole = table([question(1, accepted=2), answer(2, 1), question(3, accepted=4), answer(4, 3)])
    file = tmp_path / "Posts.xml"
    file.write_text(whole[: whole.index('<row Id="4"') + 20], encoding="utf-8")
    found: Outcomes = []
    with pytest.raises(SourceError, match="cut off"):
        read(file, found)
    assert [q.id for q in questions(found)] == [1]
    assert [r.reason for r in found if isinstance(r, Rejection)] == [stackexchange_dump.NO_ACCEPTED_ANSWER]


@pytest.mark.parametrize("text", ["", "<html><body>no dump</body></html>", "\x00\x01\x02", "<row Id='1'/>", "{}"])
def test_a_file_that_is_no_dump_is_an_error(tmp_path: Path, read: Reader, text: str) -> None:
    file = tmp_path / "Posts.xml"
    file.write_text(text)
    with pytest.raises(SourceError):
        read(file)


def test_a_document_type_of_its_own_is_refused(tmp_path: Path, read: Reader) -> None:
    file = tmp_path / "Posts.xml"
    file.write_text('<!DOCTYPE posts [<!ENTITY a "aaaa">]><posts/>')
    with pytest.raises(SourceError, match="document type"):
        read(file)


@pytest.fixture
def packed(tmp_path: Path) -> Path:
    """A 7z of a dump with 300 rows, and of its users."""
    write_large(tmp_path / "large.xml", 300, wanted_of=1)
    write(tmp_path / "named.xml", {"Id": 1, "DisplayName": "Ann"}, name="users")
    (tmp_path / "packed").mkdir()
    with SevenZipFile(tmp_path / "packed" / "site.7z", "w") as archive:
        archive.write(tmp_path / "large.xml", "Posts.xml")
        archive.write(tmp_path / "named.xml", "Users.xml")
    return tmp_path / "packed" / "site.7z"


def test_a_7z_reads_as_the_plain_file_does(tmp_path: Path, packed: Path, read: Reader) -> None:
    found = questions(read(packed))
    assert [q.digest for q in found][1:] == [q.digest for q in questions(read(tmp_path / "large.xml"))][1:]
    assert (len(found), found[0].credit.author) == (100, "Ann")


def test_a_directory_with_a_sites_7z_is_its_dump(packed: Path, read: Reader) -> None:
    assert read(packed.parent) == read(packed)


def test_a_7z_that_is_cut_off_or_broken_is_told(packed: Path, read: Reader) -> None:
    whole = packed.read_bytes()
    packed.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(SourceError, match=r"no 7z that can be opened"):
        read(packed)
    packed.write_bytes(whole[:600] + bytes(80) + whole[680:])
    with pytest.raises(SourceError, match=r"Posts ends at byte"):
        read(packed)


def test_a_7z_that_packs_well_is_unpacked_in_small_pieces(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_large(tmp_path / "Posts.xml", 6000)
    with SevenZipFile(tmp_path / "p.7z", "w", filters=[{"id": FILTER_LZMA2, "preset": 0}]) as archive:
        archive.write(tmp_path / "Posts.xml", "Posts.xml")
    sizes: list[int] = []

    def write(_: object, data: bytes) -> int:
        sizes.append(len(data))
        return len(data)

    monkeypatch.setattr(dump_files._Through, "write", write)
    found = dump_files.find(tmp_path / "p.7z", "Posts")
    assert found is not None
    assert dump_files.push(found, lambda _: None) == ""
    assert sum(sizes) == (tmp_path / "Posts.xml").stat().st_size
    assert max(sizes) < sum(sizes) / 2


def test_the_second_reading_takes_the_index_and_a_changed_dump_is_read_anew(tmp_path: Path, read: Reader) -> None:
    file = write(tmp_path / "Posts.xml", question(1, accepted=2), answer(2, 1))
    assert len(read(file)) == 1
    (index,) = (tmp_path / "indexes").iterdir()
    made = index.stat().st_mtime_ns
    assert len(read(file)) == 1
    assert index.stat().st_mtime_ns == made
    write(file, question(1, accepted=2), answer(2, 1), question(3, accepted=4), answer(4, 3))
    assert len(read(file)) == 2


def test_a_tag_that_no_question_has_is_told(tmp_path: Path, read: Reader) -> None:
    file = write(tmp_path / "Posts.xml", question(1, accepted=2), answer(2, 1))
    with pytest.raises(SourceError, match="no question to choose with `nosuch`"):
        read(file, tags=("nosuch",))


def test_what_is_not_there_is_told(tmp_path: Path, read: Reader) -> None:
    with pytest.raises(SourceError, match="does not exist"):
        read(tmp_path / "nowhere")
    (tmp_path / "empty").mkdir()
    with pytest.raises(SourceError, match="has no posts"):
        read(tmp_path / "empty")
