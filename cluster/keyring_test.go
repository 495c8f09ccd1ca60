package cluster_test

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/peerhq/peer/cluster"
	"github.com/peerhq/peer/testcluster"
)

var (
	newKey   = bytes.Repeat([]byte{9}, 32)
	thirdKey = bytes.Repeat([]byte{10}, 32)
)

func graceOf(d time.Duration) func(*cluster.Config) {
	return func(c *cluster.Config) { c.KeyGrace = d }
}

// keysOf draws a peer's keys by the first byte of each: "9 7*" encrypts with 9
// and has 7 as an old one.
func keysOf(p *peer) string {
	names := map[string]string{
		cluster.Fingerprint(testKey): "7", cluster.Fingerprint(otherKey): "8",
		cluster.Fingerprint(newKey): "9", cluster.Fingerprint(thirdKey): "10",
	}
	var out []string
	for _, k := range p.Keys() {
		s := names[k.Fingerprint]
		if !k.Until.IsZero() {
			s += "*"
		}
		out = append(out, s)
	}
	return strings.Join(out, " ")
}

func haveKeys(ps []*peer, want string) func() bool {
	return func() bool { return all(ps, func(p *peer) bool { return keysOf(p) == want }) }
}

// rotated fails unless every member did as told.
func rotated(t *testing.T, r cluster.KeyReport, err error, members int, absent ...string) {
	t.Helper()
	if err = errors.Join(err, r.Err()); err != nil {
		t.Error(err)
	}
	if len(r.Members) != members || !slices.Equal(r.Absent, absent) {
		t.Errorf("report of %d members, absent %q, want %d and %q", len(r.Members), r.Absent, members, absent)
	}
}

func TestRotate(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		ps := w.group(10, keyed(testKey), graceOf(10*time.Minute))
		settle()
		start := time.Now()
		r, err := ps[3].Rotate(t.Context(), newKey)
		took := time.Since(start)
		rotated(t, r, err, 10)
		t.Logf("ten members in %v", took)
		if r.Fingerprint != cluster.Fingerprint(newKey) || time.Until(r.Until) < 9*time.Minute {
			t.Errorf("report about %s until %v", r.Fingerprint, r.Until)
		}
		if !haveKeys(ps, "9 7*")() {
			t.Errorf("keys %q", keysOf(ps[0]))
		}
		for _, m := range r.Members {
			if !slices.Equal(m.Keys, []string{cluster.Fingerprint(newKey), cluster.Fingerprint(testKey)}) {
				t.Errorf("%s reports keys %q", m.Name, m.Keys)
			}
		}
		// Again, from elsewhere: nothing changes.
		r, err = ps[7].Rotate(t.Context(), newKey)
		rotated(t, r, err, 10)
		if !haveKeys(ps, "9 7*")() {
			t.Errorf("after a second time: keys %q", keysOf(ps[0]))
		}
		if s := ps[0].Stats(); !s.Encrypted || s.KeyFingerprint != cluster.Fingerprint(newKey) {
			t.Errorf("stats: encrypted %v, %s", s.Encrypted, s.KeyFingerprint)
		}
		late := w.start("late", 20, seeds(0), keyed(newKey))
		w.within(time.Second, "a newcomer with the new key is in", func() bool { return late.View().Count(cluster.Alive) == 11 })

		time.Sleep(9 * time.Minute)
		if !haveKeys(ps, "9 7*")() {
			t.Errorf("a minute before its time: keys %q", keysOf(ps[0]))
		}
		time.Sleep(time.Minute + 5*time.Second)
		if !haveKeys(ps, "9")() {
			t.Errorf("after the grace period: keys %q", keysOf(ps[0]))
		}
		if b := blamed(append(ps, late)); len(b) > 0 {
			t.Error(strings.Join(b, "\n"))
		}
	})
}

// Rotation again and again while tags change, peers come and datagrams are lost.
func TestRotateUnderLoad(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		ps := w.group(10, keyed(testKey))
		settle()
		w.net.SetDefault(testcluster.Link{Latency: time.Millisecond, Jitter: time.Millisecond, Loss: 0.02})
		keys := [][]byte{testKey, newKey, thirdKey, otherKey}
		for i := range 12 {
			if err := ps[i%10].SetTags(tagsOf(40, 100, fmt.Sprint(i))); err != nil {
				t.Fatal(err)
			}
			key := keys[(i+1)%4]
			r, err := ps[(3*i)%10].Rotate(t.Context(), key)
			rotated(t, r, err, 10+i)
			// A newcomer that was made with the key before.
			late := w.start(fmt.Sprintf("late%02d", i), 20+i, seeds(0), keyed(keys[i%4]))
			ps = append(ps, late)
			// Whom gossip passes by hears of it from the next few acks.
			w.within(10*time.Second, "it is in, and has the new key", func() bool {
				return all(ps, func(p *peer) bool { return p.View().Count(cluster.Alive) == len(ps) }) &&
					late.Keys()[0].Fingerprint == cluster.Fingerprint(key)
			})
		}
		time.Sleep(time.Minute)
		if b := blamed(ps); len(b) > 0 {
			t.Error(strings.Join(b, "\n"))
		}
	})
}

func TestRotateWithOneAbsent(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		ps := w.group(5, keyed(testKey), graceOf(24*time.Minute))
		settle()
		ps[4].host.Crash()
		ps[4].Close()
		w.within(time.Second, "it is failed", func() bool { return strings.HasPrefix(stateOf(ps[0], "p04"), "failed") })
		r, err := ps[0].Rotate(t.Context(), nil)
		rotated(t, r, err, 4, "p04")
		if until := time.Until(r.Until); until < 23*time.Minute || until > 24*time.Minute {
			t.Errorf("let in for %v, want 24 min", until)
		}
		time.Sleep(5 * time.Minute)
		again := w.start("p04", 4, seeds(0), keyed(testKey))
		took := w.within(time.Second, "it is back, and has the new key", func() bool {
			return all(append(ps[:4:4], again), func(p *peer) bool { return stateOf(p, "p04") == "alive" && p.View().Count(cluster.Alive) == 5 }) &&
				again.Keys()[0].Fingerprint == r.Fingerprint
		})
		t.Logf("back with the new key after %v", took)
		if k := again.Keys(); len(k) != 2 || time.Until(k[1].Until) > 19*time.Minute+time.Second {
			t.Errorf("its old key stays until %v, want no longer than the others'", k[1].Until)
		}
		time.Sleep(20 * time.Minute)
		late := w.start("late", 9, seeds(0), keyed(testKey))
		time.Sleep(time.Second)
		check(t, late.Stats().Seeds[0].Err, []string{"uses another gossip key"})
		for _, p := range append(ps[:4:4], again) {
			if p.View().Count(cluster.Alive) != 5 || len(p.Keys()) != 1 {
				t.Errorf("%s sees %s, %d keys", p.cfg.Name, draw(p.View()), len(p.Keys()))
			}
		}
		if b := blamed(append(ps[:4:4], again), "p04"); len(b) > 0 {
			t.Error(strings.Join(b, "\n"))
		}
	})
}

// One that is stopped, or cut off, while the key changes.
func TestRotateWithOneSilent(t *testing.T) {
	for _, how := range []string{"stopped", "cut off"} {
		t.Run(how, func(t *testing.T) {
			inWorld(t, func(t *testing.T, w *world) {
				ps := w.group(6, keyed(testKey))
				settle()
				if how == "stopped" {
					ps[5].host.Pause()
				} else {
					w.net.Isolate(ps[5].host)
				}
				r, err := ps[0].Rotate(t.Context(), newKey)
				if err != nil {
					t.Fatal(err)
				}
				if e := r.Err(); e == nil || !strings.Contains(e.Error(), "p05 at") || strings.Contains(e.Error(), "p04") {
					t.Errorf("got %v, want p05 named and nobody else", e)
				}
				time.Sleep(30 * time.Second)
				if how == "stopped" {
					ps[5].host.Resume()
				} else {
					w.net.Heal()
				}
				took := w.within(5*time.Second, "all are there with the new key", func() bool {
					return haveKeys(ps, "9 7*")() && all(ps, func(p *peer) bool { return len(p.View().Eligible()) == 6 })
				})
				t.Logf("whole after %v", took)
			})
		})
	}
}

func TestRotateInHalfOfACluster(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		ps := w.group(6, keyed(testKey))
		settle()
		var a, b []*testcluster.Host
		for i, p := range ps {
			if i < 3 {
				a = append(a, p.host)
			} else {
				b = append(b, p.host)
			}
		}
		w.net.Cut(a, b)
		time.Sleep(time.Minute)
		r, err := ps[0].Rotate(t.Context(), newKey)
		rotated(t, r, err, 3, "p03", "p04", "p05")
		time.Sleep(5 * time.Minute)
		w.net.Heal()
		took := w.within(3*time.Second, "whole again, with the new key", func() bool {
			return all(ps, func(p *peer) bool { return p.View().Count(cluster.Alive) == 6 }) && haveKeys(ps, "9 7*")()
		})
		t.Logf("whole after %v", took)
	})
}

func TestInstallUseRemove(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		ps := w.group(4, keyed(testKey))
		settle()
		r, err := ps[1].InstallKey(t.Context(), newKey)
		rotated(t, r, err, 4)
		if !haveKeys(ps, "7 9")() {
			t.Errorf("installed: keys %q", keysOf(ps[0]))
		}
		r, err = ps[2].UseKey(t.Context(), cluster.Fingerprint(newKey))
		rotated(t, r, err, 4)
		if !haveKeys(ps, "9 7*")() {
			t.Errorf("used: keys %q", keysOf(ps[0]))
		}
		r, err = ps[0].ListKeys(t.Context())
		rotated(t, r, err, 4)
		for _, m := range r.Members {
			if want := []string{cluster.Fingerprint(newKey), cluster.Fingerprint(testKey)}; !slices.Equal(m.Keys, want) {
				t.Errorf("%s lists %q, want %q", m.Name, m.Keys, want)
			}
		}
		r, err = ps[3].RemoveKey(t.Context(), cluster.Fingerprint(testKey))
		rotated(t, r, err, 4)
		if !haveKeys(ps, "9")() {
			t.Errorf("removed: keys %q", keysOf(ps[0]))
		}
		if _, err := ps[0].UseKey(t.Context(), cluster.Fingerprint(testKey)); !errors.Is(err, cluster.ErrUnknownKey) {
			t.Errorf("use an unknown key: %v", err)
		}
		if _, err := ps[0].RemoveKey(t.Context(), "0123456789abcdef"); !errors.Is(err, cluster.ErrUnknownKey) {
			t.Errorf("remove an unknown key: %v", err)
		}
		if _, err := ps[0].RemoveKey(t.Context(), cluster.Fingerprint(newKey)); !errors.Is(err, cluster.ErrPrimaryKey) {
			t.Errorf("remove the key in use: %v", err)
		}
		for _, n := range []int{0, 1, 31, 33} {
			if _, err := ps[0].InstallKey(t.Context(), make([]byte, n)); err == nil || !strings.Contains(err.Error(), "peer keygen") {
				t.Errorf("a key of %d bytes: %v", n, err)
			}
			if n > 0 {
				if _, err := ps[0].Rotate(t.Context(), make([]byte, n)); err == nil {
					t.Errorf("rotate to a key of %d bytes: %v", n, err)
				}
			}
		}
		for i := range 20 {
			if _, err = ps[0].InstallKey(t.Context(), bytes.Repeat([]byte{byte(100 + i)}, 16)); err != nil {
				break
			}
		}
		if err == nil || !strings.Contains(err.Error(), "limit") {
			t.Errorf("too many keys: %v", err)
		}
		if b := blamed(ps); len(b) > 0 {
			t.Error(strings.Join(b, "\n"))
		}
	})
}

// A cluster in plain text becomes an encrypted one while it runs.
func TestSealing(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		ps := w.group(5)
		settle()
		if _, err := ps[0].Rotate(t.Context(), newKey); !errors.Is(err, cluster.ErrPlainGossip) {
			t.Errorf("rotate without a key: %v", err)
		}
		encrypted := func(want bool) func() bool {
			return func() bool { return all(ps, func(p *peer) bool { return p.Stats().Encrypted == want }) }
		}
		warned := func(p *peer) string {
			for _, w := range p.Stats().Warnings {
				if w.Code == "gossip_sealing" {
					return w.Text
				}
			}
			return ""
		}
		if r, err := ps[0].ListKeys(t.Context()); err != nil || len(r.Members) != 1 || len(r.Members[0].Keys) != 0 {
			t.Errorf("list without a key: %+v, %v", r, err)
		}
		for i, p := range ps[:4] {
			r, err := p.InstallKey(t.Context(), newKey)
			if err != nil || len(r.Members) != 1 {
				t.Fatalf("%v, %+v", err, r)
			}
			time.Sleep(10 * time.Second)
			if !encrypted(false)() {
				t.Fatalf("encrypted with %d of 5 keys", i+1)
			}
		}
		if _, err := ps[0].InstallKey(t.Context(), otherKey); !errors.Is(err, cluster.ErrSealing) {
			t.Errorf("another key meanwhile: %v", err)
		}
		if _, err := ps[0].Rotate(t.Context(), otherKey); !errors.Is(err, cluster.ErrSealing) {
			t.Errorf("rotate meanwhile: %v", err)
		}
		time.Sleep(time.Minute)
		if got := warned(ps[0]); !strings.Contains(got, "p04") || strings.Contains(got, "p03") {
			t.Errorf("warning %q, want p04 named and nobody else", got)
		}
		// A peer without the key still joins.
		late := w.start("late", 9, seeds(0))
		w.within(time.Second, "a newcomer in plain text", func() bool { return late.View().Count(cluster.Alive) == 6 })
		if r, err := late.InstallKey(t.Context(), newKey); err != nil {
			t.Fatalf("%v, %+v", err, r)
		}
		ps = append(ps, late)
		r, err := ps[4].InstallKey(t.Context(), newKey)
		if err != nil {
			t.Fatal(err)
		}
		if len(r.Absent) > 0 {
			t.Errorf("%q are waited for, and have the key", r.Absent)
		}
		took := w.within(20*time.Second, "all is encrypted", encrypted(true))
		t.Logf("encrypted %v after the last key", took)
		if got := warned(ps[0]); got != "" {
			t.Errorf("still warned: %q", got)
		}
		misfit := w.start("misfit", 11, seeds(0))
		time.Sleep(time.Second)
		check(t, misfit.Stats().Seeds[0].Err, []string{"is encrypted and this peer has no key"})
		r, err = ps[2].Rotate(t.Context(), thirdKey)
		rotated(t, r, err, 6)
		time.Sleep(2 * time.Minute)
		for _, p := range ps {
			if p.View().Count(cluster.Alive) != 6 || keysOf(p) != "10 9*" {
				t.Errorf("%s sees %s with keys %s", p.cfg.Name, draw(p.View()), keysOf(p))
			}
		}
		if b := blamed(ps); len(b) > 0 {
			t.Error(strings.Join(b, "\n"))
		}
	})
}

// What the switch to encryption is not: hurried by somebody without the key.
func TestSealingIsNotHurried(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		ps := w.group(3)
		settle()
		if _, err := ps[0].InstallKey(t.Context(), newKey); err != nil {
			t.Fatal(err)
		}
		a := w.attacker()
		for range 60 {
			for _, p := range ps[1:] {
				for stage := range byte(3) {
					b := binary.BigEndian.AppendUint64([]byte{wireUser, 'S'}, uint64(p.Self().Instance))
					b = append(append(b, stage), cluster.Fingerprint(newKey)...)
					a.send(ps[0], labelled("peer", append(b, make([]byte, 16)...)))
				}
			}
			time.Sleep(time.Second)
		}
		if s := ps[0].Stats(); s.Encrypted || ps[0].View().Count(cluster.Alive) != 3 {
			t.Errorf("encrypted %v, sees %s", s.Encrypted, draw(ps[0].View()))
		}
	})
}

// Commands about keys by somebody without one, and those that were recorded.
func TestForgedKeyCommands(t *testing.T) {
	eachWay(t, func(t *testing.T, w *world, edit func(*cluster.Config)) {
		ps := w.group(3, edit)
		settle()
		a := w.attacker()
		before := views(ps)
		for _, op := range "iurlx" {
			b := binary.BigEndian.AppendUint64([]byte{wireUser, 'K'}, 1)
			b = binary.BigEndian.AppendUint64(b, uint64(ps[1].Self().Instance))
			b = binary.BigEndian.AppendUint64(b, 1<<50)
			b = append(append(b, byte(op), 0, 0, 0, 0), otherKey...)
			for _, p := range ps {
				a.send(p, labelled("peer", append(b, make([]byte, 16)...)))
				a.send(p, labelled("peer", b))
			}
		}
		time.Sleep(time.Second)
		for _, p := range ps {
			if len(p.Keys()) != len(p.cfg.Keys) {
				t.Errorf("%s has %d keys, want %d", p.cfg.Name, len(p.Keys()), len(p.cfg.Keys))
			}
		}
		w.unharmed(ps, before, 0, edit)
	})
}

func keyedByFile(t *testing.T, path string, keys ...[]byte) func(*cluster.Config) {
	return func(c *cluster.Config) {
		c.Keys, c.KeyFile = keys, path
		if keys == nil {
			var err error
			if c.Keys, err = cluster.ReadKeyFile(path); err != nil {
				t.Fatal(err)
			}
		}
	}
}

func TestKeyFileFollows(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		dir := t.TempDir()
		file := func(i int) string { return filepath.Join(dir, fmt.Sprintf("key%d", i)) }
		var ps []*peer
		for i := range 3 {
			ps = append(ps, w.start(fmt.Sprintf("p%02d", i), i, seeds(0), keyedByFile(t, file(i), testKey), graceOf(10*time.Minute)))
		}
		w.within(5*time.Second, "all see all", func() bool { return all(ps, func(p *peer) bool { return p.View().Count(cluster.Alive) == 3 }) })
		r, err := ps[0].Rotate(t.Context(), newKey)
		rotated(t, r, err, 3)
		for i := range ps {
			info, err := os.Stat(file(i))
			if err != nil {
				t.Fatal(err)
			}
			if info.Mode().Perm() != 0o600 {
				t.Errorf("%s has mode %v", file(i), info.Mode())
			}
		}
		time.Sleep(time.Minute)
		ps[2].host.Crash()
		ps[2].Close()
		again := w.start("p02", 2, seeds(0), keyedByFile(t, file(2)))
		w.within(time.Second, "it is back", func() bool { return again.View().Count(cluster.Alive) == 3 })
		if got := keysOf(again); got != "9 7*" {
			t.Errorf("keys after a restart: %q", got)
		}
		if until := time.Until(again.Keys()[1].Until); until > 9*time.Minute+time.Second {
			t.Errorf("its old key stays for %v, want a minute less than 10", until)
		}
		time.Sleep(10 * time.Minute)
		if got := keysOf(again); got != "9" {
			t.Errorf("keys after the grace period: %q", got)
		}
		data, err := os.ReadFile(file(2))
		if err != nil || strings.Contains(string(data), "until") {
			t.Errorf("key file: %v, the old key is still in it: %q", err, data)
		}
	})
}

func TestKeyFileThatCanNotBeWritten(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		ps := w.group(2, keyed(testKey))
		bad := w.start("p02", 2, seeds(0), keyedByFile(t, filepath.Join(t.TempDir(), "gone", "key"), testKey))
		ps = append(ps, bad)
		w.within(5*time.Second, "all see all", func() bool { return all(ps, func(p *peer) bool { return p.View().Count(cluster.Alive) == 3 }) })
		r, err := ps[0].Rotate(t.Context(), newKey)
		rotated(t, r, err, 3)
		for _, m := range r.Members {
			want := "started without a key file"
			if m.Name == "p02" {
				want = "key file was not rewritten"
			}
			if !strings.Contains(m.Note, want) {
				t.Errorf("%s notes %q, want %q", m.Name, m.Note, want)
			}
		}
		if keysOf(bad) != "9 7*" {
			t.Errorf("it has keys %q", keysOf(bad))
		}
		if !slices.ContainsFunc(bad.Stats().Warnings, func(w cluster.Warning) bool { return w.Code == "key_file" }) {
			t.Error("no warning")
		}
	})
}

// Two at once, from two hosts: whatever wins, all understand each other, and
// who loses is told so.
func TestRotationsAtOnce(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		ps := w.group(6, keyed(testKey))
		settle()
		done := make(chan error, 2)
		for i, key := range [][]byte{newKey, thirdKey} {
			go func() {
				_, err := ps[i].Rotate(context.Background(), key)
				done <- err
			}()
		}
		for range 2 {
			if err := <-done; err != nil && !strings.Contains(err.Error(), "later change") {
				t.Error(err)
			}
		}
		time.Sleep(time.Minute)
		for _, p := range ps {
			t.Logf("%s has keys %s", p.cfg.Name, keysOf(p))
			if p.View().Count(cluster.Alive) != 6 {
				t.Errorf("%s sees %s", p.cfg.Name, draw(p.View()))
			}
		}
		r, err := ps[2].Rotate(t.Context(), otherKey)
		rotated(t, r, err, 6)
		if !all(ps, func(p *peer) bool { return p.Keys()[0].Fingerprint == cluster.Fingerprint(otherKey) }) {
			t.Error("one more rotation did not settle it")
		}
		if b := blamed(ps); len(b) > 0 {
			t.Error(strings.Join(b, "\n"))
		}
	})
}

// Where UDP is blocked the exchange itself tells who came with the old key.
func TestAbsentComesBackWithoutUDP(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		ps := w.group(3, keyed(testKey))
		settle()
		ps[2].host.Crash()
		ps[2].Close()
		time.Sleep(time.Second)
		if r, err := ps[0].Rotate(t.Context(), newKey); err != nil || len(r.Absent) != 1 {
			t.Fatalf("%+v, %v", r, err)
		}
		w.net.SetDefault(testcluster.Link{Latency: time.Millisecond, BlockUDP: true})
		again := w.start("p02", 2, seeds(0), keyed(testKey))
		took := w.within(2*time.Second, "it has the new key", func() bool { return keysOf(again) == "9 7*" })
		t.Logf("after %v", took)
	})
}

// Over the real network, with one that is down while the key changes.
func TestRotateOnLoopback(t *testing.T) {
	cs := onLoopback(t, 4, keyed(testKey))
	cs[3].Close()
	waitReal(t, "it is gone", func() bool {
		for _, c := range cs[:3] {
			if c.View().Count(cluster.Alive) != 3 {
				return false
			}
		}
		return true
	})
	r, err := cs[1].Rotate(t.Context(), newKey)
	rotated(t, r, err, 3, "p3")
	back := oneOnLoopback(t, "p3", cs, keyed(testKey))
	took := waitReal(t, "it is back with the new key", func() bool {
		return back.Keys()[0].Fingerprint == cluster.Fingerprint(newKey) && back.View().Count(cluster.Alive) == 4 &&
			cs[0].View().Count(cluster.Alive) == 4
	})
	t.Logf("back after %v", took)
	time.Sleep(2 * time.Second)
	for _, c := range append(cs[:3:3], back) {
		if n := c.View().Count(cluster.Alive); n != 4 {
			t.Errorf("%s sees %d alive, want 4", c.Self().Name, n)
		}
	}
}
