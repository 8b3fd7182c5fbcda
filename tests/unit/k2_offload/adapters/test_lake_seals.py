"""The table of seals in the real catalog of pyiceberg, over years."""

from __future__ import annotations

import time
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import pytest

from k2_offload.adapters import lake_seals
from k2_offload.core.errors import DamagedTable, StaleWindow
from k2_offload.core.plan import PlannedColumn
from k2_offload.core.seals import Seal

MORNING = datetime(2026, 3, 5, 8, tzinfo=UTC)


def seal(number, table="trades"):
    day, columns = date(2026, 3, 4) + timedelta(days=number), (PlannedColumn("at", "timestamptz"),)
    return Seal(table, "uuid", day, "at", number, number, columns, None, number, MORNING + timedelta(days=number))


@pytest.fixture
def seals(catalog, monkeypatch):
    monkeypatch.setattr(lake_seals, "_MOST_FILES", 5)
    return lambda: catalog.seals("cold")


def written(seals):
    found, altered = seals().read()
    assert altered == []
    return sorted(found, key=lambda each: each.seal_id)


def files(lake):
    return int(lake.load_table("cold.k2_seals").current_snapshot().summary["total-data-files"])


def test_every_seal_stays_and_files_do_not_become_many(seals, lake):
    made = [seal(number) for number in range(13)]
    lake.create_namespace("cold")
    for each in made:
        cold = seals()
        cold.read()
        cold.append([each])
        assert files(lake) <= 5
    assert written(seals) == sorted(made, key=lambda each: each.seal_id)


def test_seals_of_several_tables_after_one_read_are_all_kept(seals, lake):
    lake.create_namespace("cold")
    cold = seals()
    cold.read()
    made = [seal(1, f"table_{number}") for number in range(12)]
    for each in made:
        cold.append([each])
    assert written(seals) == sorted(made, key=lambda each: each.seal_id)
    assert files(lake) <= 5


def test_what_another_run_has_sealed_meanwhile_is_never_written_over(seals, lake):
    lake.create_namespace("cold")
    first, second = seals(), seals()
    for number in range(5):
        first.read()
        first.append([seal(number)])
    assert files(lake) == 5
    first.read()
    second.read()
    second.append([seal(6)])
    with pytest.raises(StaleWindow, match="another run has sealed"):
        first.append([seal(7)])
    assert {each.rows for each in written(seals)} == {0, 1, 2, 3, 4, 6}


def test_a_row_that_was_altered_by_hand_is_kept_as_it_is(seals, lake):
    lake.create_namespace("cold")
    for number in range(5):
        cold = seals()
        cold.read()
        cold.append([seal(number)])
    table = lake.load_table("cold.k2_seals")
    rows = table.scan("rows = 3").to_arrow().to_pylist()
    import pyarrow as pa

    table.overwrite(pa.Table.from_pylist([row | {"rows": 77} for row in rows], table.schema().as_arrow()), "rows = 3")
    cold = seals()
    _, altered = cold.read()
    cold.append([seal(8)])
    found, still = seals().read()
    assert (len(found), still) == (5, altered)
    assert len(altered) == 1


def test_snapshots_of_months_ago_expire_and_the_seals_stay(seals, lake):
    """The catalog's clock is the machine's: the seals are of a later time."""
    lake.create_namespace("cold")
    made = [seal(number) for number in range(9)]
    for each in made:
        cold = seals()
        cold.read()
        cold.append([each])
    count = len(lake.load_table("cold.k2_seals").metadata.snapshots)
    late = Seal(**{**vars(seal(50)), "sealed_at": datetime.now(UTC) + timedelta(days=31)})
    cold = seals()
    cold.read()
    cold.append([late])
    assert count >= 9
    assert len(lake.load_table("cold.k2_seals").metadata.snapshots) == 1
    assert len(written(seals)) == 10


def on_disk(folder):
    return {file.name for suffix in ("avro", "parquet") for file in folder.rglob(f"*.{suffix}")}


def test_files_that_only_expired_snapshots_name_are_removed_and_no_other(seals, lake, tmp_path):
    lake.create_namespace("cold")

    def append(numbers, **changes):
        for number in numbers:
            cold = seals()
            cold.read()
            cold.append([Seal(**{**vars(seal(number)), **changes})])
            time.sleep(0.002)  # the snapshots have times of their own

    append(range(14))
    [folder] = tmp_path.rglob("k2_seals")
    (folder / "data" / "of-somebody-else.parquet").touch()
    before, middle = on_disk(folder), datetime.now(UTC)
    append([14, 15])
    append([16], sealed_at=middle + timedelta(days=30))

    table = lake.load_table("cold.k2_seals")
    left = [table.scan(snapshot_id=each.snapshot_id).to_arrow().num_rows for each in table.metadata.snapshots]
    assert (left[0], left[-1]) == (14, 17), "the newest of the old ones may just be read"
    named = {Path(each.manifest_list).name for each in table.metadata.snapshots}
    named |= {Path(path).name for path in table.inspect.all_manifests()["path"].to_pylist()}
    named |= {Path(path).name for path in table.inspect.all_files()["file_path"].to_pylist()}
    assert on_disk(folder) == named | {"of-somebody-else.parquet"}
    assert before - on_disk(folder)


def test_seals_stay_sealed_where_nothing_may_be_removed(seals, lake, monkeypatch):
    asked = []

    def refuse(_, file):
        asked.append(file)
        raise PermissionError("not here")

    lake.create_namespace("cold")
    monkeypatch.setattr("pyiceberg.io.pyarrow.PyArrowFileIO.delete", refuse)
    for number in range(9):
        cold = seals()
        cold.read()
        cold.append([Seal(**{**vars(seal(number)), "sealed_at": datetime.now(UTC) + timedelta(days=31)})])
    assert len(written(seals)) == 9
    assert any(file.endswith(".avro") for file in asked)


def test_a_table_that_the_catalog_has_lost_is_not_begun_anew(seals, lake, catalog):
    """Its seals of days that ClickHouse has no more could not be made again."""
    lake.create_namespace("cold")
    cold = seals()
    cold.read()
    cold.append([seal(number) for number in range(12)])
    lake.drop_table("cold.k2_seals")
    cold = seals()
    assert cold.read() == ([], [])
    for _ in range(2):
        with pytest.raises(DamagedTable, match=r"holds one of 12 rows.*`k2 register k2_seals`"):
            cold.append([seal(99)])
    entry = catalog.registration("k2_seals", "cold.k2_seals")
    [found] = [state for state in entry.find(entry.usual_location).states if state.rows]
    entry.replace(found.metadata_file)
    cold = seals()
    cold.read()
    cold.append([seal(99)])
    assert len(written(seals)) == 13


def test_seals_that_the_ledger_has_are_written_into_a_new_table(seals, lake):
    lake.create_namespace("cold")
    cold = seals()
    cold.read()
    made = [seal(number) for number in range(4)]
    cold.append(made)
    lake.drop_table("cold.k2_seals")
    cold = seals()
    cold.read()
    with pytest.raises(DamagedTable, match="k2 register"):
        cold.append([seal(number) for number in range(4, 9)])
    cold = seals()
    cold.read()
    cold.append(made, again=True)
    assert len(written(seals)) == 4
