"""Where results go: every sink has the three methods of :class:`~streamdrnn.apps.speaker_id.session.Sink`.

:mod:`~streamdrnn.apps.speaker_id.sinks.segments` writes decided segments alone, in the formats of other tools.
"""
