"""The paper's tables and figures, reproduced: what is run, and the report of it."""
