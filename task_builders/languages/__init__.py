"""One profile per language: what its projects need, how their tests run, and which files may influence the tests."""
