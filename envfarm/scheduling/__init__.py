"""Pure decisions on what runs where and when."""
