"""Pure verdicts: a test plan, its reports and the integrity facts give an outcome. Standard library only."""
