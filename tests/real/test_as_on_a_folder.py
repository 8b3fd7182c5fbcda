"""What holds where the lake is a folder and the catalog is in Postgres holds on S3 behind REST: the same tests."""

import pytest

from tests.stack.k2_offload.test_disaster import (
    test_a_person_chooses_where_the_tables_folder_is_not_known,
    test_a_person_may_go_back_by_name_and_what_followed_is_moved_again,
)
from tests.stack.k2_offload.test_fault_matrix import (
    JOB_HITS,
    faulty_job,
    matrix,
    test_a_job_that_hangs_leaves_no_process_when_it_is_killed,
    test_an_attempt_that_fails_leaves_no_file_that_no_snapshot_refers_to,
    test_commit_may_die_at_any_point,
    test_no_layer_passes_the_one_below_whatever_becomes_of_that,
    test_one_job_with_every_other_fault_moves_the_rest,
    test_plan_may_die_at_any_point,
    test_the_job_may_be_killed_at_any_point,
    test_the_retry_the_next_cycle_and_maintenance_clear_up_after_those_faults,
)
from tests.stack.k2_offload.test_maintenance import (
    scattered,
    scattered_in_windows,
    test_a_closed_day_of_many_files_becomes_one_and_holds_the_same_rows,
    test_a_day_healed_while_it_is_rewritten_stays_healed,
    test_a_folder_that_holds_another_table_is_left_alone,
    test_it_may_fail_at_any_point_and_the_next_run_goes_on,
    test_nothing_expires_after_a_rollback,
    test_only_old_files_that_no_snapshot_names_are_removed,
    test_snapshots_expire_down_to_the_last_window,
    test_what_another_writer_commits_meanwhile_stays,
)
from tests.stack.k2_offload.test_seals import (
    sealed,
    test_a_flipped_bit_breaks_the_seal,
    test_a_row_that_another_writer_removes_breaks_the_seal,
    test_a_sealed_day_stays_whole_through_compaction,
)

__all__ = [
    "faulty_job",
    "matrix",
    "scattered",
    "scattered_in_windows",
    "sealed",
    "test_a_closed_day_of_many_files_becomes_one_and_holds_the_same_rows",
    "test_a_day_healed_while_it_is_rewritten_stays_healed",
    "test_a_flipped_bit_breaks_the_seal",
    "test_a_folder_that_holds_another_table_is_left_alone",
    "test_a_job_that_hangs_leaves_no_process_when_it_is_killed",
    "test_a_person_chooses_where_the_tables_folder_is_not_known",
    "test_a_person_may_go_back_by_name_and_what_followed_is_moved_again",
    "test_a_row_that_another_writer_removes_breaks_the_seal",
    "test_a_sealed_day_stays_whole_through_compaction",
    "test_an_attempt_that_fails_leaves_no_file_that_no_snapshot_refers_to",
    "test_commit_may_die_at_any_point",
    "test_it_may_fail_at_any_point_and_the_next_run_goes_on",
    "test_no_layer_passes_the_one_below_whatever_becomes_of_that",
    "test_nothing_expires_after_a_rollback",
    "test_one_job_with_every_other_fault_moves_the_rest",
    "test_only_old_files_that_no_snapshot_names_are_removed",
    "test_plan_may_die_at_any_point",
    "test_snapshots_expire_down_to_the_last_window",
    "test_the_job_may_be_killed_at_any_point",
    "test_the_retry_the_next_cycle_and_maintenance_clear_up_after_those_faults",
    "test_what_another_writer_commits_meanwhile_stays",
]


@pytest.fixture(scope="module")
def job_hits():
    """Without a drop: behind REST, what fails its audit is left to maintenance."""
    return JOB_HITS
