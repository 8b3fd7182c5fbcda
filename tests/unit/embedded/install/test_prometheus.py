from __future__ import annotations

from embedded.install import prometheus


def test_where_it_cannot_be_fetched_set_up_stops_with_the_command(monkeypatch, tmp_path, capsys):
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(prometheus, "FOLDER", tmp_path)
    assert prometheus.main() == 1
    assert "sudo apt-get install --no-install-recommends prometheus" in capsys.readouterr().err


def test_what_was_unpacked_is_found(monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(prometheus, "FOLDER", tmp_path)
    for name in prometheus.PROGRAMS:
        program = tmp_path / "usr/bin" / name
        program.parent.mkdir(parents=True, exist_ok=True)
        program.touch(mode=0o755)
    assert prometheus.main() == 0
