from __future__ import annotations

from pathlib import Path

from k2_offload.adapters import spark_submit


def test_only_a_short_job_goes_without_the_optimising_compiler():
    assert "TieredStopAtLevel=1" in spark_submit.driver_options()
    assert "TieredStopAtLevel" not in spark_submit.driver_options(short=False)


def test_class_archive_is_used_where_one_is_named():
    assert '"-XX:SharedArchiveFile=/a folder/b.jsa"' in spark_submit.driver_options("/a folder/b.jsa")
    assert "SharedArchiveFile" not in spark_submit.driver_options()


def test_class_archive_is_made_with_the_class_path_that_jobs_have():
    command = spark_submit.class_archive_command("spark-submit", "/jars/a.jar,/jars/b.jar", Path("/b.jsa"))
    assert command[command.index("--driver-class-path") + 1] == spark_submit.classpath("/jars/a.jar,/jars/b.jar")
    assert any('"-XX:ArchiveClassesAtExit=/b.jsa"' in argument for argument in command)
