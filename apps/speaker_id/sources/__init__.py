"""Where sound comes from: every source is a :class:`~streamdrnn.apps.speaker_id.sources.source.Source`."""
