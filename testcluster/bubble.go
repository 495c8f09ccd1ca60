package testcluster

import (
	"runtime"
	"testing"
	"testing/synctest"
)

// Bubble is synctest.Test for a test that runs long in virtual time. With the
// race detector it keeps to one CPU: a bubble's timers share one of the
// detector's stacks, which two that fire at once on two CPUs corrupt, until the
// binary dies of it (golang/go#78156, open in Go 1.26). It must not be called
// from tests that run in parallel.
func Bubble(t *testing.T, f func(t *testing.T)) {
	t.Helper()
	if RaceDetector {
		defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(1))
	}
	synctest.Test(t, f)
}
