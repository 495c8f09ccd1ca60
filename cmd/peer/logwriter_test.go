package main

import (
	"bytes"
	"fmt"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"
)

// reader is a log that is read once free is closed, or fails with err.
type reader struct {
	free chan struct{}
	err  error
	got  bytes.Buffer
}

func (r *reader) Write(p []byte) (int, error) {
	<-r.free
	if r.err != nil {
		return 0, r.err
	}
	return r.got.Write(p)
}

func TestLogWriterNeverWaits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := &reader{free: make(chan struct{})}
		w := newLogWriter(r)
		line := []byte("line 0\n")
		for i := range maxLogLines + 10 {
			line = fmt.Appendf(line[:0], "line %d\n", i) // the caller's bytes stay the caller's
			if n, err := w.Write(line); n != len(line) || err != nil {
				t.Fatal(n, err)
			}
			if i == 0 {
				synctest.Wait()
			}
		}
		if n := w.dropped.Load(); n != 9 {
			t.Errorf("dropped %d lines, want 9", n)
		}
		start := time.Now()
		w.close()
		if took := time.Since(start); took != logDrain {
			t.Errorf("close took %v with a reader that stalls", took)
		}
		close(r.free)
		synctest.Wait()
		if got := r.got.String(); !strings.HasPrefix(got, "line 0\nline 1\n") || strings.Count(got, "\n") != maxLogLines+1 {
			t.Errorf("%d lines came through, the first %.40q", strings.Count(got, "\n"), got)
		}
	})
}

func TestLogWriterIsBoundedInBytes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := &reader{free: make(chan struct{})}
		w := newLogWriter(r)
		big := bytes.Repeat([]byte("x"), maxLogBytes/4)
		for range 6 {
			w.Write(big) //nolint:errcheck // it never fails
		}
		if n := w.dropped.Load(); n != 2 {
			t.Errorf("dropped %d of 6 quarters, want 2", n)
		}
		close(r.free)
		synctest.Wait()
		w.Write([]byte("there is room again")) //nolint:errcheck // it never fails
		w.close()
		if !strings.HasSuffix(r.got.String(), "there is room again") {
			t.Error("what was read makes no room")
		}
	})
}

func TestLogWriterWithoutAReader(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := &reader{free: make(chan struct{}), err: syscall.EPIPE}
		close(r.free)
		w := newLogWriter(r)
		for range 3 {
			w.Write([]byte("x\n")) //nolint:errcheck // it never fails
		}
		w.close()
		if n := w.dropped.Load(); n != 3 {
			t.Errorf("dropped %d lines, want 3", n)
		}
	})
}
