"""Review dashboard: reads what the pipeline left on disk and changes nothing. Started by ``make dashboard``."""
