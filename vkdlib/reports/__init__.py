"""Records to columns, tables, figures and verdicts, beside what the papers print."""
