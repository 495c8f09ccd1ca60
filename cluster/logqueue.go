package cluster

import (
	"bytes"
	"io"
	stdlog "log"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hashicorp/go-hclog"
)

const (
	// maxLogLines waits for the reader of the log: the lines of a cluster of a
	// thousand in which everybody changes at once.
	maxLogLines = 1024
	// logDrain is how long Close waits for the lines that were logged before
	// it. A reader that takes them at all takes them in a few milliseconds.
	logDrain = 100 * time.Millisecond
)

// logQueue hands log lines to Config.Logger from a goroutine of its own, so that
// a reader of the log who stalls (a full pipe, a stuck journald) stalls nothing
// here. When the queue is full, lines are dropped and counted.
type logQueue struct {
	lines   chan logLine
	dropped atomic.Uint64

	once   sync.Once
	closed chan struct{} // by close
	done   chan struct{} // when the goroutine has ended
}

// logLine is one call of a logger.
type logLine struct {
	to    hclog.Logger
	level hclog.Level
	text  string
	args  []any
}

// newLogQueue starts the goroutine that writes; close ends it.
func newLogQueue() *logQueue {
	q := &logQueue{lines: make(chan logLine, maxLogLines), closed: make(chan struct{}), done: make(chan struct{})}
	go q.run()
	return q
}

// logger returns a logger that queues its lines for to. Levels are to's.
func (q *logQueue) logger(to hclog.Logger) hclog.Logger { return queuedLogger{Logger: to, queue: q} }

func (q *logQueue) run() {
	defer close(q.done)
	told := uint64(0)
	for {
		var l logLine
		select {
		case l = <-q.lines:
		case <-q.closed:
			// What was logged before close, and no more than that.
			for range len(q.lines) {
				(<-q.lines).write()
			}
			return
		}
		l.write()
		if n := q.dropped.Load(); n > told && len(q.lines) == 0 {
			l.to.Warn("log lines dropped: the reader of the log does not keep up", "lines", n-told)
			told = n
		}
	}
}

func (l logLine) write() { l.to.Log(l.level, l.text, l.args...) }

// put queues a line or drops it; it never waits. Errors become text now,
// because what they speak of may change until they are written.
func (q *logQueue) put(l logLine) {
	args := make([]any, len(l.args)) // the caller's slice stays the caller's
	for i, a := range l.args {
		if err, ok := a.(error); ok && err != nil {
			a = err.Error()
		}
		args[i] = a
	}
	l.args = args
	select {
	case <-q.closed: // memberlist's last probes: nobody reads them
		return
	default:
	}
	select {
	case q.lines <- l:
	default:
		q.dropped.Add(1)
	}
}

// close ends the goroutine once it has written what was logged, and waits for
// that, but not for a reader that stalls: then the goroutine ends with the
// write that it hangs in, or with the process.
func (q *logQueue) close() {
	q.once.Do(func() { close(q.closed) })
	t := time.NewTimer(logDrain)
	defer t.Stop()
	select {
	case <-q.done:
	case <-t.C:
	}
}

// queuedLogger is a logger whose lines go through a queue. Levels, names and
// implied arguments are those of the logger behind it.
type queuedLogger struct {
	hclog.Logger
	queue *logQueue
}

func (l queuedLogger) Log(level hclog.Level, text string, args ...any) {
	if l.enabled(level) {
		l.queue.put(logLine{to: l.Logger, level: level, text: text, args: args})
	}
}

func (l queuedLogger) enabled(level hclog.Level) bool {
	switch level {
	case hclog.Trace:
		return l.IsTrace()
	case hclog.Debug:
		return l.IsDebug()
	case hclog.Info:
		return l.IsInfo()
	case hclog.Warn:
		return l.IsWarn()
	case hclog.Error:
		return l.IsError()
	}
	return false
}

func (l queuedLogger) Trace(text string, args ...any) { l.Log(hclog.Trace, text, args...) }
func (l queuedLogger) Debug(text string, args ...any) { l.Log(hclog.Debug, text, args...) }
func (l queuedLogger) Info(text string, args ...any)  { l.Log(hclog.Info, text, args...) }
func (l queuedLogger) Warn(text string, args ...any)  { l.Log(hclog.Warn, text, args...) }
func (l queuedLogger) Error(text string, args ...any) { l.Log(hclog.Error, text, args...) }

func (l queuedLogger) With(args ...any) hclog.Logger { return l.queue.logger(l.Logger.With(args...)) }
func (l queuedLogger) Named(n string) hclog.Logger   { return l.queue.logger(l.Logger.Named(n)) }
func (l queuedLogger) ResetNamed(n string) hclog.Logger {
	return l.queue.logger(l.Logger.ResetNamed(n))
}

// StandardLogger returns a logger of the standard library whose lines are
// queued at opts.ForceLevel, or at info.
func (l queuedLogger) StandardLogger(opts *hclog.StandardLoggerOptions) *stdlog.Logger {
	return stdlog.New(l.StandardWriter(opts), "", 0)
}

// StandardWriter is StandardLogger for who writes a line at a time.
func (l queuedLogger) StandardWriter(opts *hclog.StandardLoggerOptions) io.Writer {
	level := hclog.Info
	if opts != nil && opts.ForceLevel != hclog.NoLevel {
		level = opts.ForceLevel
	}
	return lineWriter{log: l, level: level}
}

type lineWriter struct {
	log   hclog.Logger
	level hclog.Level
}

func (w lineWriter) Write(p []byte) (int, error) {
	w.log.Log(w.level, string(bytes.TrimSpace(p)))
	return len(p), nil
}
