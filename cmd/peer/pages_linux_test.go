package main

import (
	"os"
	"strconv"
	"strings"
	"testing"
)

// Pages of the program's file leave the process, and come back when needed.
func TestReturnPages(t *testing.T) {
	resident := func() int {
		t.Helper()
		b, err := os.ReadFile("/proc/self/status")
		if err != nil {
			t.Fatal(err)
		}
		for line := range strings.Lines(string(b)) {
			if f := strings.Fields(line); len(f) == 3 && f[0] == "RssFile:" {
				kb, err := strconv.Atoi(f[1])
				if err != nil {
					t.Fatal(err)
				}
				return kb
			}
		}
		t.Skip("this kernel does not tell RssFile")
		return 0
	}
	before := resident()
	if err := returnPages(); err != nil {
		t.Fatal(err)
	}
	after := resident()
	t.Logf("%d kB of files resident before, %d kB after", before, after)
	if after > before/2 {
		t.Errorf("%d kB of files resident before, %d kB after, want less than half", before, after)
	}
	if build := readBuild(); build.Go == "" {
		t.Errorf("after it the program does not find its own build: %+v", build)
	}
}
