"""Pure verdicts: a test plan, its reports and the integrity facts become an outcome. Standard library only."""
