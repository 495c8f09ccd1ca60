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

// A cluster that was quiet for longer than ForgetAfter loses power everywhere,
// and every host boots with a wrong clock. Nobody has been absent while another
// watched, so nobody is forgotten, and no seeds are needed.
func TestQuietClusterOutlivesAnOutage(t *testing.T) {
	for _, clock := range []time.Duration{30 * 24 * time.Hour, -30 * 365 * 24 * time.Hour} {
		inWorld(t, func(t *testing.T, w *world) {
			disks := []*testcluster.MemFS{new(testcluster.MemFS), new(testcluster.MemFS), new(testcluster.MemFS)}
			var ps []*peer
			forget := func(c *cluster.Config) { c.ForgetAfter = time.Minute }
			for i, name := range []string{"a", "b", "c"} {
				ps = append(ps, w.start(name, i, inDir(disks[i]), seeds(0), forget))
			}
			w.within(10*time.Second, "all see all", func() bool { return all(ps, func(p *peer) bool { return p.View().Count(cluster.Alive) == 3 }) })
			time.Sleep(5 * time.Minute)
			for _, p := range ps {
				p.host.PowerOff()
			}
			for _, p := range ps {
				p.Close()
			}
			time.Sleep(5 * time.Minute)
			for i, name := range []string{"a", "b", "c"} {
				ps[i] = w.start(name, i, inDir(disks[i]), forget, func(c *cluster.Config) {
					c.Now = func() time.Time { return time.Now().Add(clock) }
				})
			}
			w.within(time.Second, "the cluster is whole again", func() bool { return all(ps, func(p *peer) bool { return p.View().Count(cluster.Alive) == 3 }) })
		})
	}
}

// Who is absent is remembered for as long as this peer runs without seeing it,
// whatever number of starts that takes, and however long it was off in between.
func TestAbsentPeerIsForgottenByRunningTime(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		disk := new(testcluster.MemFS)
		knows := func() bool {
			data, err := disk.ReadFile("/data/members.json")
			return err == nil && strings.Contains(string(data), `"name":"b"`)
		}
		forget := func(c *cluster.Config) { c.ForgetAfter = 5 * time.Minute }
		a := w.start("a", 0, inDir(disk), forget)
		b := w.start("b", 1, seeds(0), forget)
		w.within(10*time.Second, "b is known", knows)
		b.host.PowerOff()
		b.Close()
		for range 2 {
			time.Sleep(2 * time.Minute) // of five
			a.Close()
			time.Sleep(time.Hour)
			a = w.start("a", 0, inDir(disk), forget)
			if !knows() {
				t.Fatal("b was forgotten for the time that this peer was off")
			}
		}
		time.Sleep(2 * time.Minute)
		a.Close()
		if knows() {
			t.Error("b is remembered though this peer ran for six minutes without it")
		}
	})
}
