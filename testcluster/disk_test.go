package testcluster_test

import (
	"encoding/base64"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/peerhq/peer/agent"
	"github.com/peerhq/peer/testcluster"
)

func contains(s, part string) bool { return strings.Contains(strings.ToLower(s), part) }

// says reports whether any warning of n's status has this text.
func says(w *World, n *Node, text string) bool {
	w.Helper()
	s := w.Status(n)
	for _, warning := range s.Warnings {
		if contains(warning.Text, text) && warning.Fix != "" {
			return true
		}
	}
	return false
}

func TestDiskFails(t *testing.T) {
	for _, fault := range []syscall.Errno{syscall.ENOSPC, syscall.EROFS} {
		t.Run(fault.Error(), func(t *testing.T) {
			in(t, func(w *World) {
				disk := new(testcluster.MemFS)
				nodes := w.StartMany(2)
				n := w.Start(Spec{Name: "full", Join: []string{nodes[0].Addr()}, FS: disk})
				nodes = append(nodes, n)
				w.Whole(nodes, 3*time.Second)
				w.Sleep(30 * time.Second)
				disk.Fail(fault)
				late := w.Start(Spec{Name: "late", Join: []string{nodes[0].Addr()}})
				nodes = append(nodes, late)
				w.Whole(nodes, 3*time.Second)
				w.Eventually(2*time.Minute, "it says that it cannot write", func() error {
					if !says(w, n, fault.Error()) {
						return errString("no warning")
					}
					return nil
				})
				w.Rotation(n, nodes)

				disk.Fail(nil)
				nodes = append(nodes, w.Start(Spec{Name: "later", Join: []string{nodes[0].Addr()}}))
				w.Eventually(2*time.Minute, "the warning goes when the disk is mended", func() error {
					if says(w, n, fault.Error()) {
						return fmt.Errorf("it says %+v", w.Status(n).Warnings)
					}
					return nil
				})

				// It starts with such a disk, too, and knows whom it knew.
				disk.Fail(fault)
				n.Kill()
				n.Restart(func(s *Spec) { s.Join = nil })
				w.Whole(nodes, 5*time.Second)
				if !says(w, n, fault.Error()) {
					w.Errorf("started on such a disk it says %+v", w.Status(n).Warnings)
				}
			}, virtual)
		})
	}
}

type errString string

func (e errString) Error() string { return string(e) }

func TestSpoiledSnapshot(t *testing.T) {
	spoils := map[string]func([]byte) []byte{
		"truncated":   func(b []byte) []byte { return b[:len(b)/2] },
		"bit flipped": func(b []byte) []byte { b[len(b)/2] ^= 0x10; return b },
		"empty":       func([]byte) []byte { return nil },
		"garbage":     func([]byte) []byte { return []byte(strings.Repeat("\x00\xff", 5000)) },
	}
	for name, spoil := range spoils {
		t.Run(name, func(t *testing.T) {
			in(t, func(w *World) {
				disk := new(testcluster.MemFS)
				nodes := w.StartMany(2)
				n := w.Start(Spec{Name: "spoiled", Join: []string{nodes[0].Addr()}, FS: disk})
				nodes = append(nodes, n)
				w.Whole(nodes, 3*time.Second)
				w.Sleep(30 * time.Second)
				n.Kill()
				before := disk.Files()
				if len(before) == 0 {
					w.Fatal("nothing was written to the data dir")
				}
				for _, f := range before {
					disk.Spoil(f, spoil)
				}
				n.Restart(nil)
				w.Whole(nodes, 5*time.Second)
				if s := w.Status(n); len(s.Warnings) < 2 { // the other one is about encryption
					w.Errorf("it does not say that its data dir was spoiled: %+v", s.Warnings)
				}
				if after := disk.Files(); len(after) <= len(before) {
					w.Errorf("the bad file was not kept aside: %v", after)
				}
			}, virtual)
		})
	}
}

func TestGossipKeys(t *testing.T) {
	in(t, func(w *World) {
		keyed := func(fill byte) func(*agent.Config) {
			path := filepath.Join(w.TempDir(), "key")
			key := base64.StdEncoding.EncodeToString([]byte(strings.Repeat(string(rune(fill)), 32)))
			if err := os.WriteFile(path, []byte(key+"\n"), 0o600); err != nil {
				w.Fatal(err)
			}
			return func(cfg *agent.Config) { cfg.EncryptFile, cfg.Insecure = path, false }
		}
		right, wrong := keyed('a'), keyed('b')
		nodes := []*Node{w.Start(Spec{Name: "p0", Config: right})}
		nodes = append(nodes, w.Start(Spec{Name: "p1", Config: right, Join: []string{nodes[0].Addr()}}))
		w.Whole(nodes, 3*time.Second)
		for _, n := range nodes {
			if s := w.Status(n); !s.Cluster.Encrypted || s.Cluster.KeyFingerprint == "" {
				w.Errorf("%s: encrypted %v, fingerprint %q", n.Name, s.Cluster.Encrypted, s.Cluster.KeyFingerprint)
			}
		}
		start := time.Now()
		foreign := w.Start(Spec{Name: "label", Join: []string{nodes[0].Addr()}, Config: func(cfg *agent.Config) {
			right(cfg)
			cfg.Cluster = "other"
		}})
		strangers := []struct {
			n    *Node
			want []string // one of them in its error
		}{
			{w.Start(Spec{Name: "wrong", Config: wrong, Join: []string{nodes[0].Addr()}}), []string{"key"}},
			{w.Start(Spec{Name: "none", Join: []string{nodes[0].Addr()}}), []string{"key", "encrypt"}},
		}
		for _, s := range strangers {
			w.Eventually(20*time.Second, "the joiner says what is wrong: "+strings.Join(s.want, " or "), func() error {
				said := w.Status(s.n).Cluster.Seeds[0].LastError
				if !slices.ContainsFunc(s.want, func(want string) bool { return contains(said, want) }) {
					return errString(s.n.Name + " says " + said)
				}
				return nil
			})
			w.Logf("%s: %s", s.n.Name, w.Status(s.n).Cluster.Seeds[0].LastError)
		}
		w.Eventually(20*time.Second, "one of another cluster is not let in", func() error {
			if s := w.Status(foreign).Cluster; s.Alive != 1 || s.Seeds[0].LastError == "" {
				return fmt.Errorf("it sees %d, %+v", s.Alive, s.Seeds)
			}
			return nil
		})
		w.Logf("another label: %s", w.Status(foreign).Cluster.Seeds[0].LastError)
		w.Sleep(10 * time.Second)
		w.Whole(nodes, 0)
		w.Unharmed(start)
		for _, n := range nodes {
			if lines := strings.Count(n.Log(), "\n"); lines > 60 {
				w.Errorf("strangers made %s log %d lines", n.Name, lines)
			}
		}
	}, both)
}
