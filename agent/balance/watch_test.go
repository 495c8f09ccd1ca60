package balance_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/peerhq/peer/agent/api"
	"github.com/peerhq/peer/agent/balance"
	"github.com/peerhq/peer/selector"
	"github.com/peerhq/peer/testcluster"
)

func expect(t testing.TB, when, got, want string) {
	t.Helper()
	if got != want {
		t.Errorf("%s: got %q, want %q", when, got, want)
	}
}

// A change is seen at once, and by name: the order of turns keeps its place.
func TestFollows(t *testing.T) {
	testcluster.Bubble(t, func(t *testing.T) {
		a := newFakeAgent(t, "a", "b", "c!")
		var told []string
		w := a.watch(func(c *balance.Config) {
			c.OnChange = func(v balance.View) { told = append(told, fmt.Sprint(len(v.Peers), v.Err)) }
		})
		if _, err := w.Next(); !errors.Is(err, selector.ErrNoPeers) {
			t.Errorf("before the first answer: %v", err)
		}
		if err := w.Ready(t.Context()); err != nil {
			t.Fatal(err)
		}
		expect(t, "at first", names(w), "a b")
		if v := w.View(); v.Known != 3 || v.Index != 7 || v.Instance != "1" || v.Err != nil || v.Age() != 0 {
			t.Errorf("the view is %+v", v)
		}
		turns := map[string]int{}
		for range 10 {
			p, err := w.Next()
			if err != nil || p.HostPort() != "10.1.0.1:80" || p.MemberTags["zone"] != "z-"+p.Name {
				t.Fatalf("got %+v, %v", p, err)
			}
			turns[p.Name]++
		}
		if turns["a"] != 5 || turns["b"] != 5 {
			t.Errorf("ten turns of two: %v", turns)
		}
		a.set("b", "c")
		synctest.Wait()
		expect(t, "after a change", names(w), "b c")
		time.Sleep(10 * time.Minute)
		synctest.Wait()
		if v := w.View(); v.Err != nil || v.Age() > 30*time.Second {
			t.Errorf("after ten quiet minutes the view is %v old: %v", v.Age(), v.Err)
		}
		if got := a.asked("wait"); got < 20 || got > 25 {
			t.Errorf("%d blocking reads in ten quiet minutes, want one each 30 s", got)
		}
		synctest.Wait()
		expect(t, "what was told", strings.Join(told, ", "), "2 <nil>, 2 <nil>")
	})
}

// Through nobody and back: who waits has its peer at once.
func TestEmptyAndBack(t *testing.T) {
	testcluster.Bubble(t, func(t *testing.T) {
		a := newFakeAgent(t, "a")
		w := a.watch(nil)
		if err := w.Ready(t.Context()); err != nil {
			t.Fatal(err)
		}
		for _, peers := range [][]string{{}, {"a!", "b!"}} {
			a.set(peers...)
			synctest.Wait()
			_, err := w.Next()
			var none *balance.NoPeersError
			if !errors.As(err, &none) || !errors.Is(err, selector.ErrNoPeers) || none.Known != len(peers) || none.Agent != nil {
				t.Errorf("of %q: %v", peers, err)
			}
			ctx, cancel := context.WithTimeout(t.Context(), time.Second)
			if _, err := w.NextWait(ctx); !errors.Is(err, context.DeadlineExceeded) || !errors.Is(err, selector.ErrNoPeers) {
				t.Errorf("waited in vain: %v", err)
			}
			cancel()
			back := time.Now().Add(time.Hour)
			time.AfterFunc(time.Hour, func() { a.set("b") })
			p, err := w.NextWait(t.Context())
			if err != nil || p.Name != "b" || time.Since(back) != 0 {
				t.Errorf("got %s, %v, %v after it came", p.Name, err, time.Since(back))
			}
		}
	})
}

// What is no whole list of the service is not taken for one.
func TestHalfAndForeignLists(t *testing.T) {
	whole := `{"name":"web","index":9,"instances":[{"node":"x","addr":"10.0.0.1","port":80,"eligible":true}]}`
	for name, spoil := range map[string]http.HandlerFunc{
		"cut off in the middle": func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Content-Length", fmt.Sprint(len(whole)))
			io.WriteString(w, whole[:len(whole)/2])
			w.(http.Flusher).Flush()
			panic(http.ErrAbortHandler)
		},
		"cut off, in chunks": func(w http.ResponseWriter, r *http.Request) {
			io.WriteString(w, whole[:len(whole)-3])
			w.(http.Flusher).Flush()
			panic(http.ErrAbortHandler)
		},
		"half a document":       func(w http.ResponseWriter, r *http.Request) { io.WriteString(w, whole[:len(whole)-3]) },
		"an empty document":     func(w http.ResponseWriter, r *http.Request) { io.WriteString(w, `{}`) },
		"nothing":               func(w http.ResponseWriter, r *http.Request) {},
		"another service":       func(w http.ResponseWriter, r *http.Request) { io.WriteString(w, `{"name":"db"}`) },
		"a page":                func(w http.ResponseWriter, r *http.Request) { io.WriteString(w, `<html>`) },
		"an error":              func(w http.ResponseWriter, r *http.Request) { http.Error(w, "oops", 500) },
		"not found, by another": func(w http.ResponseWriter, r *http.Request) { http.NotFound(w, r) },
	} {
		t.Run(name, func(t *testing.T) {
			testcluster.Bubble(t, func(t *testing.T) {
				a := newFakeAgent(t, "a", "b")
				w := a.watch(nil)
				if err := w.Ready(t.Context()); err != nil {
					t.Fatal(err)
				}
				a.change(func() {
					a.index++
					a.spoil = func(w http.ResponseWriter, r *http.Request) bool {
						if r.URL.Path == "/v1/status" {
							return false
						}
						spoil(w, r)
						return true
					}
				})
				a.down()
				a.up()
				time.Sleep(10 * time.Second)
				if v := w.View(); names(w) != "a b" || v.Err == nil {
					t.Errorf("got %q, %v", names(w), v.Err)
				}
				a.change(func() { a.spoil = nil; a.peers = []string{"b"} })
				time.Sleep(6 * time.Second)
				if v := w.View(); names(w) != "b" || v.Err != nil {
					t.Errorf("and well again: got %q, %v", names(w), v.Err)
				}
			})
		})
	}
}

// An agent with too many who wait is looked at now and then, and one that does
// not wait is not asked without a pause.
func TestNoRoomToWait(t *testing.T) {
	for name, spoil := range map[string]func(http.ResponseWriter, *http.Request) bool{
		"no room": func(w http.ResponseWriter, r *http.Request) bool {
			if !r.URL.Query().Has("wait") {
				return false
			}
			w.Header().Set("Content-Type", "application/problem+json")
			w.WriteHeader(503)
			fmt.Fprintf(w, `{"type":"urn:peer:error:%s","status":503}`, api.KindTooManyStreams)
			return true
		},
		"no wait": func(w http.ResponseWriter, r *http.Request) bool {
			r.URL.RawQuery = ""
			return false
		},
	} {
		t.Run(name, func(t *testing.T) {
			testcluster.Bubble(t, func(t *testing.T) {
				a := newFakeAgent(t, "a")
				a.spoil = spoil
				w := a.watch(nil)
				time.Sleep(time.Minute)
				a.set("b")
				time.Sleep(5 * time.Second)
				expect(t, "five seconds after a change", names(w), "b")
				if n := a.asked("status") + a.asked("read") + a.asked("wait"); n > 120 || w.View().Err != nil {
					t.Errorf("%d requests in a minute, %v", n, w.View().Err)
				}
			})
		})
	}
}

// Tags, zones and policies go by what the agent tells.
func TestChoice(t *testing.T) {
	testcluster.Bubble(t, func(t *testing.T) {
		a := newFakeAgent(t, "a", "b", "c")
		turns := func(edit func(*balance.Config)) string {
			t.Helper()
			w := a.watch(edit)
			if err := w.Ready(t.Context()); err != nil {
				t.Fatal(err)
			}
			got := map[string]int{}
			for range 6 {
				p, err := w.NextFor("key")
				if err != nil {
					return err.Error()
				}
				got[p.Name]++
			}
			return fmt.Sprint(got)
		}
		expect(t, "round robin", turns(nil), "map[a:2 b:2 c:2]")
		expect(t, "a tag that all have", turns(func(c *balance.Config) { c.Tags = []string{"v1"} }), "map[a:2 b:2 c:2]")
		expect(t, "a member's tag", turns(func(c *balance.Config) { c.MemberTags = map[string]string{"zone": "z-b"} }), "map[b:6]")
		if got := turns(func(c *balance.Config) { c.Tags = []string{"v1", "v2"} }); !strings.Contains(got, "3 known, none of them fit") {
			t.Errorf("a tag that nobody has: %s", got)
		}
		if got := turns(func(c *balance.Config) { c.Policy = selector.ByKey }); !strings.Contains(got, ":6]") {
			t.Errorf("by key: %s", got)
		}
		expect(t, "by zone", turns(func(c *balance.Config) { c.ZoneTag, c.Home = "zone", "z-c" }), "map[c:6]")
		expect(t, "tuned", turns(func(c *balance.Config) {
			c.Tune = func(s *selector.Config[*balance.Peer]) { s.Self, s.SelfRule = "a", selector.SelfNever }
		}), "map[b:3 c:3]")
	})
}

func TestMistakes(t *testing.T) {
	for want, cfg := range map[string]balance.Config{
		"tags without a service": {Tags: []string{"x"}},
		"home without zones":     {Home: "x"},
		"wait 1ms":               {Wait: time.Millisecond},
		"policy 99":              {Policy: 99},
		"parse agent address":    {Agent: "ftp://x"},
	} {
		if w, err := balance.Start(cfg); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("got %v, want %q", err, want)
			if w != nil {
				w.Close()
			}
		}
	}
	_, err := balance.Start(balance.Config{Tags: []string{"x"}, Home: "x", Wait: 1})
	if err == nil || strings.Count(err.Error(), "\n") != 2 {
		t.Errorf("not all mistakes at once: %v", err)
	}
}

// Close ends a read under way and whoever waits for the first view.
func TestClose(t *testing.T) {
	testcluster.Bubble(t, func(t *testing.T) {
		a := newFakeAgent(t, "a")
		w := a.watch(nil)
		if err := w.Ready(t.Context()); err != nil {
			t.Fatal(err)
		}
		began := time.Now()
		w.Close()
		w.Close()
		if d := time.Since(began); d != 0 {
			t.Errorf("took %v", d)
		}
		if p, err := w.Next(); err != nil || p.Name != "a" {
			t.Errorf("the last view stays: %v, %v", p, err)
		}
		a.down()
		w = a.watch(nil)
		go func() { time.Sleep(time.Second); w.Close() }()
		var none *balance.NoPeersError
		if err := w.Ready(t.Context()); !errors.Is(err, balance.ErrClosed) || !errors.As(err, &none) || none.Age >= 0 || none.Agent == nil {
			t.Errorf("closed before the first view: %v", err)
		}
	})
}

// Many pick while views change: nobody is handed out who was never there, and no
// view is seen by half.
func TestPicksWhileViewsChange(t *testing.T) {
	testcluster.Bubble(t, func(t *testing.T) {
		a := newFakeAgent(t, "x0", "y0")
		w := a.watch(nil)
		if err := w.Ready(t.Context()); err != nil {
			t.Fatal(err)
		}
		var picking sync.WaitGroup
		stop := make(chan struct{})
		for range 4 {
			picking.Go(func() {
				for {
					select {
					case <-stop:
						return
					default:
					}
					if _, err := w.Next(); err != nil {
						t.Error(err)
						return
					}
					turn, err := w.Take(selector.Want{})
					if err != nil {
						t.Error(err)
						return
					}
					turn.Done(nil, time.Millisecond)
					v := w.View()
					if len(v.Peers) != 2 || v.Peers[0].Name[1:] != v.Peers[1].Name[1:] {
						t.Errorf("half a view: %v", v.Peers)
						return
					}
					w.Report(v.Peers[0], errors.New("refused"), 0)
					if len(slices.Collect(w.All())) != 2 {
						t.Error("half a walk")
						return
					}
					time.Sleep(time.Millisecond)
				}
			})
		}
		for i := range 200 {
			a.set(fmt.Sprintf("x%d", i), fmt.Sprintf("y%d", i))
			time.Sleep(3 * time.Millisecond)
		}
		close(stop)
		picking.Wait()
		expect(t, "in the end", names(w), "x199 y199")
	})
}
