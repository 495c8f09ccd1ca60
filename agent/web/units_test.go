package web

import (
	"testing"
	"time"
)

func TestSpan(t *testing.T) {
	for _, tt := range []struct {
		d    time.Duration
		want string
	}{
		{-time.Second, "0.0 s"},
		{0, "0.0 s"},
		{340 * time.Millisecond, "0.3 s"},
		{9949 * time.Millisecond, "9.9 s"},
		{9999 * time.Millisecond, "9.9 s"},
		{10 * time.Second, "10 s"},
		{59*time.Second + 999*time.Millisecond, "59 s"},
		{time.Minute, "1 min"},
		{61 * time.Second, "1 min 1 s"},
		{10 * time.Minute, "10 min"},
		{time.Hour, "1 h"},
		{125 * time.Minute, "2 h 5 min"},
		{49 * time.Hour, "2 d 1 h"},
		{10000 * time.Hour, "416 d 16 h"},
	} {
		if got := span(tt.d); got != tt.want {
			t.Errorf("%v: got %q, want %q", tt.d, got, tt.want)
		}
	}
}

func TestMillis(t *testing.T) {
	for ms, want := range map[float64]string{0: "0.00 ms", 0.417: "0.42 ms", 9.99: "9.99 ms", 12.6: "13 ms", 1500: "1.5 s"} {
		if got := millis(ms); got != want {
			t.Errorf("%v: got %q, want %q", ms, got, want)
		}
	}
}
