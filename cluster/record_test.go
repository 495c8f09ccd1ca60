package cluster_test

import (
	"fmt"
	"maps"
	"net/netip"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/peerhq/peer/cluster"
	"github.com/peerhq/peer/testcluster"
)

// tagsOf returns n tags with values of size bytes that begin with mark.
func tagsOf(n, size int, mark string) map[string]string {
	tags := map[string]string{}
	for i := range n {
		tags[fmt.Sprintf("tag-%02d", i)] = mark + strings.Repeat("x", size-len(mark))
	}
	return tags
}

func servicesOf(n int, mark string) []cluster.Service {
	var out []cluster.Service
	for i := range n {
		out = append(out, cluster.Service{
			Name: fmt.Sprintf("service-%02d", i), Port: uint16(8000 + i), Tags: []string{"http", "v2"}, Weight: 3,
			Meta: map[string]string{"path": "/" + mark, "owner": strings.Repeat("y", 200)},
		})
	}
	return out
}

// seen says whether all of ps show name with these tags and services.
func seen(ps []*peer, name string, tags map[string]string, services []cluster.Service) bool {
	return all(ps, func(p *peer) bool {
		ms := p.View().Lookup(name)
		return len(ms) == 1 && maps.Equal(ms[0].Tags, tags) && reflect.DeepEqual(ms[0].Services, services)
	})
}

// What fits a datagram is broadcast, what does not is fetched; both are seen by
// all within a second.
func TestRecordsSpread(t *testing.T) {
	for _, tt := range []struct {
		name     string
		tags     func(mark string) map[string]string
		services func(mark string) []cluster.Service
	}{
		{"100 bytes", func(m string) map[string]string { return tagsOf(3, 20, m) }, func(string) []cluster.Service { return nil }},
		{"900 bytes", func(m string) map[string]string { return tagsOf(12, 60, m) }, func(string) []cluster.Service { return nil }},
		{"2 KiB", func(m string) map[string]string { return tagsOf(10, 200, m) }, func(string) []cluster.Service { return nil }},
		{"8 KiB", func(m string) map[string]string { return tagsOf(40, 100, m) }, func(m string) []cluster.Service { return servicesOf(13, m) }},
		{"36 KiB, all that may be", func(m string) map[string]string { return tagsOf(64, 256, m) }, func(m string) []cluster.Service { return servicesOf(64, m) }},
	} {
		t.Run(tt.name, func(t *testing.T) {
			inWorld(t, func(t *testing.T, w *world) {
				ps := w.group(10)
				settle()
				var worst time.Duration
				for i := range 10 {
					p, mark := ps[i], fmt.Sprintf("m%d-", i)
					tags, services := tt.tags(mark), tt.services(mark)
					start := time.Now()
					if err := p.SetTags(tags); err != nil {
						t.Fatal(err)
					}
					if err := p.SetServices(services); err != nil {
						t.Fatal(err)
					}
					w.within(time.Second, "everybody sees the change", func() bool { return seen(ps, p.cfg.Name, tags, services) })
					worst = max(worst, time.Since(start))
				}
				t.Logf("seen by ten after %v at the worst", worst)
				if worst > time.Second {
					t.Errorf("took %v, want less than a second", worst)
				}
				// A newcomer gets them all with its first exchange.
				late := w.start("late", 20, seeds(0))
				took := w.within(time.Second, "a newcomer knows all of it", func() bool {
					for i, p := range ps {
						mark := fmt.Sprintf("m%d-", i)
						if !seen([]*peer{late}, p.cfg.Name, tt.tags(mark), tt.services(mark)) {
							return false
						}
					}
					return true
				})
				t.Logf("a newcomer knows all after %v", took)
			})
		})
	}
}

// One change after the other: the last one counts, whatever overtakes what.
func TestRecordsKeepTheLast(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		ps := w.group(10)
		settle()
		w.net.SetDefault(testcluster.Link{Latency: time.Millisecond, Jitter: 5 * time.Millisecond, Loss: 0.1})
		var last map[string]string
		for i := range 100 {
			last = tagsOf(1+i%15, 20+i, fmt.Sprintf("%d-", i))
			if err := ps[3].SetTags(last); err != nil {
				t.Fatal(err)
			}
			time.Sleep(20 * time.Millisecond)
		}
		took := w.within(5*time.Second, "everybody has the last one", func() bool { return seen(ps, "p03", last, nil) })
		t.Logf("after %v at 10 %% loss", took)
	})
}

func TestRecordsAreRepairedAfterAPartition(t *testing.T) {
	for _, size := range []int{20, 250} {
		t.Run(fmt.Sprintf("%d tags of %d bytes", 40, size), func(t *testing.T) {
			inWorld(t, func(t *testing.T, w *world) {
				ps := w.group(6)
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
				time.Sleep(20 * time.Second)
				want := map[int]map[string]string{}
				for i, p := range ps {
					want[i] = tagsOf(40, size, fmt.Sprintf("new%d-", i))
					if err := p.SetTags(want[i]); err != nil {
						t.Fatal(err)
					}
				}
				time.Sleep(2 * time.Minute) // all gossip about them is over
				for i := range ps {
					if seen(ps, ps[i].cfg.Name, want[i], nil) {
						t.Fatal("a change crossed the cut")
					}
				}
				w.net.Heal()
				took := w.within(4*time.Second, "both halves have all changes", func() bool {
					for i := range ps {
						if !seen(ps, ps[i].cfg.Name, want[i], nil) {
							return false
						}
					}
					return true
				})
				t.Logf("repaired %v after the network was back", took)
			})
		})
	}
}

// Without UDP a record still comes, over streams alone.
func TestLargeRecordsAreFetchedOverStreams(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		ps := w.group(3)
		settle()
		big := tagsOf(64, 256, "big-")
		var before uint64
		for _, p := range ps {
			before += p.host.Counters().PacketBytes
		}
		if err := ps[1].SetTags(big); err != nil {
			t.Fatal(err)
		}
		took := w.within(time.Second, "everybody has it", func() bool { return seen(ps, "p01", big, nil) })
		var after uint64
		for _, p := range ps {
			after += p.host.Counters().PacketBytes
		}
		t.Logf("16 KiB in %v, with %d bytes of datagrams", took, after-before)
		if after-before > 8<<10 {
			t.Errorf("%d bytes of datagrams: it did not go over streams", after-before)
		}
	})
}

func TestRecordsThatDoNotFit(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		p := w.start("p1", 1, func(c *cluster.Config) { c.Tags = map[string]string{"zone": "a"} })
		huge := make([]cluster.Service, 64)
		for i := range huge {
			huge[i] = cluster.Service{Name: fmt.Sprintf("s%d", i), Meta: tagsOf(8, 200, "")}
		}
		for _, tt := range []struct {
			what string
			do   func() error
			want string
		}{
			{"too many tags", func() error { return p.SetTags(tagsOf(65, 10, "")) }, "65 tags: remove 1"},
			{"a long tag", func() error { return p.SetTags(tagsOf(1, 257, "")) }, "shorten it to 256"},
			{"a tag with a control character", func() error { return p.SetTags(map[string]string{"a": "\x1b"}) }, "cannot be printed"},
			{"too many services", func() error { return p.SetServices(make([]cluster.Service, 65)) }, "65 services"},
			{"more than 64 KiB", func() error { return p.SetServices(huge) }, "at most 65536 fit"},
		} {
			if err := tt.do(); err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("%s: got %v, want %q in it", tt.what, err, tt.want)
			}
			if m := p.Self(); m.Tags["zone"] != "a" || len(m.Tags) != 1 || len(m.Services) != 0 {
				t.Errorf("%s: a refused change was made: %v", tt.what, m.Tags)
			}
		}
		bad := p.cfg
		bad.Network = w.net.Host(ip(9))
		bad.Bind = netip.AddrPortFrom(w.net.Host(ip(9)).Addr(), 7946).String()
		bad.Services = huge
		if c, err := cluster.Start(bad); err == nil || !strings.Contains(err.Error(), "announce fewer") {
			t.Errorf("start: got %v", err)
			if c != nil {
				c.Close()
			}
		}
	})
}
