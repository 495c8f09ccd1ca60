package cluster_test

import (
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/peerhq/peer/cluster"
	"github.com/peerhq/peer/testcluster"
)

// dataDirWarning returns what p says is wrong with its data dir.
func dataDirWarning(p *peer) string {
	ws := p.Stats().Warnings
	i := slices.IndexFunc(ws, func(w cluster.Warning) bool { return w.Code == "data_dir" })
	if i < 0 {
		return ""
	}
	return ws[i].Text
}

func inDir(fs cluster.FS) func(*cluster.Config) {
	return func(c *cluster.Config) { c.DataDir, c.FS = "/data", fs }
}

// Two peers that were given one data dir would each forget what the other knows.
func TestTwoPeersOnOneDataDir(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		disk := new(testcluster.MemFS)
		first := w.start("a", 0, inDir(disk))
		time.Sleep(time.Minute)
		if s := dataDirWarning(first); s != "" {
			t.Fatalf("alone on its data dir it says %q", s)
		}
		second := w.start("b", 1, inDir(disk), seeds(0))
		w.within(5*time.Second, "the first says that its data dir was taken", func() bool {
			return strings.Contains(dataDirWarning(first), "a data dir of its own")
		})
		if s := dataDirWarning(second); s != "" {
			t.Errorf("the second says %q", s)
		}
	})
}

// A disk that has room again is noticed though no member changes.
func TestMendedDiskIsNoticed(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		disk := new(testcluster.MemFS)
		p := w.start("a", 0, inDir(disk))
		time.Sleep(10 * time.Second)
		disk.Fail(syscall.ENOSPC)
		w.start("b", 1, seeds(0))
		w.within(5*time.Second, "the failed write is told of", func() bool { return dataDirWarning(p) != "" })
		disk.Fail(nil)
		w.within(time.Minute, "the warning goes", func() bool { return dataDirWarning(p) == "" })
	})
}
