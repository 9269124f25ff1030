// Package failover stands in for contrib's failover connector, which cannot be had through the Go
// module proxy that this project builds from (nor can the isolationforest and drain processors).
// It was written for the integration tests from the connector's documentation; it shares no code
// with it and is not meant for anybody's production.
//
// It takes the part of the genuine connector's configuration that config-examples/ uses, under the
// same component type, so one file serves both:
//
//   - priority_levels: logs go to the first healthy level. A level that fails is left, and the very
//     batch it failed on is given to the next one: that is what makes failing over lossless.
//   - retry_interval: every so often one batch is offered to the levels above. If a level takes it,
//     the stream returns there; if not, the batch continues on the level that works.
//   - sending_queue: the genuine connector has a queue of its own; a queue would answer "done"
//     before a level has answered. This one has none, and insists on being told `enabled: false`.
//
// When every level fails the caller gets the errors, and may send again.
package failover

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"go.opentelemetry.io/collector/component"
	"go.opentelemetry.io/collector/connector"
	"go.opentelemetry.io/collector/consumer"
	"go.opentelemetry.io/collector/pdata/plog"
	"go.opentelemetry.io/collector/pipeline"
	"go.uber.org/zap"
)

// Config is what users write.
type Config struct {
	PriorityLevels [][]pipeline.ID `mapstructure:"priority_levels"`
	RetryInterval  time.Duration   `mapstructure:"retry_interval"`
	SendingQueue   SendingQueue    `mapstructure:"sending_queue"`
}

// SendingQueue has the one setting that matters here.
type SendingQueue struct {
	Enabled bool `mapstructure:"enabled"`
}

// Validate is called by the Collector before anything starts.
func (c *Config) Validate() error {
	if len(c.PriorityLevels) == 0 {
		return errors.New("priority_levels: at least one level is needed")
	}
	for i, level := range c.PriorityLevels {
		if len(level) == 0 {
			return fmt.Errorf("priority_levels: level %d names no pipeline", i+1)
		}
	}
	if c.RetryInterval <= 0 {
		return errors.New("retry_interval: must be above zero")
	}
	if c.SendingQueue.Enabled {
		return errors.New("sending_queue: this stand-in has none, say `enabled: false`")
	}
	return nil
}

// NewFactory is what the Collector builder looks for.
func NewFactory() connector.Factory {
	return connector.NewFactory(
		component.MustNewType("failover"),
		func() component.Config {
			return &Config{RetryInterval: 10 * time.Minute, SendingQueue: SendingQueue{Enabled: true}}
		},
		connector.WithLogsToLogs(newLogs, component.StabilityLevelDevelopment),
	)
}

func newLogs(_ context.Context, set connector.Settings, cfg component.Config, next consumer.Logs) (connector.Logs, error) {
	conf := cfg.(*Config)
	router, ok := next.(connector.LogsRouterAndConsumer)
	if !ok {
		return nil, errors.New("failover: needs pipelines to route to")
	}
	f := &logs{conf: conf, log: set.Logger, now: time.Now}
	for _, level := range conf.PriorityLevels {
		c, err := router.Consumer(level...)
		if err != nil {
			return nil, fmt.Errorf("failover: %w", err)
		}
		f.levels = append(f.levels, c)
	}
	return f, nil
}

type logs struct {
	component.StartFunc
	component.ShutdownFunc
	conf   *Config
	log    *zap.Logger
	levels []consumer.Logs
	now    func() time.Time

	mu      sync.Mutex
	stable  int       // the level in use
	retryAt time.Time // when a higher level is next offered a batch
}

func (*logs) Capabilities() consumer.Capabilities { return consumer.Capabilities{MutatesData: false} }

func (f *logs) ConsumeLogs(ctx context.Context, ld plog.Logs) error {
	first := f.firstLevel()
	var errs error
	for level := first; level < len(f.levels); level++ {
		err := f.levels[level].ConsumeLogs(ctx, ld)
		if err == nil {
			f.settle(level)
			return nil
		}
		errs = errors.Join(errs, fmt.Errorf("failover level %d: %w", level+1, err))
	}
	return errs
}

// firstLevel says where this batch starts: at the level in use, or, for one batch per retry
// interval, at the top.
func (f *logs) firstLevel() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.stable > 0 && !f.now().Before(f.retryAt) {
		f.retryAt = f.now().Add(f.conf.RetryInterval)
		return 0
	}
	return f.stable
}

// settle remembers the level that took a batch.
func (f *logs) settle(level int) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if level == f.stable {
		return
	}
	f.log.Warn("failover: level changed", zap.Int("from", f.stable+1), zap.Int("to", level+1))
	if level > f.stable {
		f.retryAt = f.now().Add(f.conf.RetryInterval)
	}
	f.stable = level
}
