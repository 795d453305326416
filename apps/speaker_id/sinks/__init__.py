"""Where results go: every sink has the three methods of :class:`~streamdrnn.apps.speaker_id.session.Sink`."""
