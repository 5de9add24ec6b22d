"""Pages and tables from rates and records. Nothing here measures anything."""

from vlmend.report.page import build

__all__ = ["build"]
