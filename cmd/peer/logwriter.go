package main

import (
	"io"
	"sync"
	"sync/atomic"
	"time"
)

const (
	// What waits for the reader of the log: a burst of minutes at info level.
	maxLogLines = 4096
	maxLogBytes = 1 << 20
	// logDrain is how long the end waits for the last lines to be read.
	logDrain = 100 * time.Millisecond
)

// logWriter writes from a goroutine of its own, so that a log whose reader
// stalls, or has gone, holds up nobody who logs. What does not fit is dropped
// and counted. Each Write is one line.
type logWriter struct {
	to      io.Writer
	lines   chan []byte
	waiting atomic.Int64 // bytes in lines
	dropped atomic.Uint64

	once   sync.Once
	closed chan struct{}
	done   chan struct{}
}

// newLogWriter starts the goroutine that writes; close ends it.
func newLogWriter(to io.Writer) *logWriter {
	w := &logWriter{to: to, lines: make(chan []byte, maxLogLines), closed: make(chan struct{}), done: make(chan struct{})}
	go w.run()
	return w
}

// Write takes p and returns at once. It never fails.
func (w *logWriter) Write(p []byte) (int, error) {
	n := int64(len(p))
	if w.waiting.Add(n) > maxLogBytes {
		w.waiting.Add(-n)
		w.dropped.Add(1)
		return len(p), nil
	}
	select {
	case w.lines <- append([]byte(nil), p...):
	default:
		w.waiting.Add(-n)
		w.dropped.Add(1)
	}
	return len(p), nil
}

func (w *logWriter) run() {
	defer close(w.done)
	for {
		select {
		case line := <-w.lines:
			w.write(line)
		case <-w.closed:
			for range len(w.lines) {
				w.write(<-w.lines)
			}
			return
		}
	}
}

// write passes a line on. One that the reader does not get, because it has
// gone, is dropped too.
func (w *logWriter) write(line []byte) {
	if _, err := w.to.Write(line); err != nil {
		w.dropped.Add(1)
	}
	w.waiting.Add(-int64(len(line)))
}

// close waits a moment until what was written has been read, and not for a
// reader that stalls.
func (w *logWriter) close() {
	w.once.Do(func() { close(w.closed) })
	t := time.NewTimer(logDrain)
	defer t.Stop()
	select {
	case <-w.done:
	case <-t.C:
	}
}
