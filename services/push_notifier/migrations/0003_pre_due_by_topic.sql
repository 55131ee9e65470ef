-- What is due of one topic stands together: a topic that nothing may be sent for is stepped over
-- whole, however many channels wait for it. A sender of the release before claims slower meanwhile.
DROP INDEX channel_due;
CREATE INDEX channel_due ON channel (topic, next_push_at)
    WHERE next_push_at IS NOT NULL AND open AND dead_at IS NULL AND push IS NOT NULL;
