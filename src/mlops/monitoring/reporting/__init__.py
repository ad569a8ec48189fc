"""Evaluations as people read them: a page, a picture for an alert, and a timeline for a terminal.

Pure: values in, text or bytes out, the same for equal values. `page` needs the summaries' numpy and jinja2, `picture`
Pillow; both come with MLflow and are imported when they are called.
"""

from mlops.monitoring.reporting.about import About
from mlops.monitoring.reporting.deeds import Executed
from mlops.monitoring.reporting.page import page
from mlops.monitoring.reporting.picture import picture, svg_picture
from mlops.monitoring.reporting.timeline import timeline_text

__all__ = ["About", "Executed", "page", "picture", "svg_picture", "timeline_text"]
