package keys

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// party is several peers that have keys and nothing else. Frames between them
// arrive at once, and commands only where the key that they came in opens them.
type party struct {
	mu    sync.Mutex
	rings map[string]*Keyring
	away  map[string]bool
	sent  int // frames over streams
}

// guest is one peer of a party.
type guest struct {
	p    *party
	self Member
}

func member(name string) Member {
	n := uint64(name[0])
	return Member{Name: name, Instance: n << 22, Addr: netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, 0, 0, byte(n)}), 7946)}
}

// newParty starts a peer for each of names, with the keys that fill names.
func newParty(t *testing.T, names string, fills ...byte) *party {
	p := &party{rings: map[string]*Keyring{}, away: map[string]bool{}}
	for n := range strings.SplitSeq(names, "") {
		p.start(t, n, fills...)
	}
	return p
}

func (p *party) start(t *testing.T, name string, fills ...byte) *Keyring {
	t.Helper()
	cfg := Config{Label: "peer", Grace: time.Hour, Members: guest{p, member(name)}}
	for _, f := range fills {
		cfg.Keys = append(cfg.Keys, bytes.Repeat([]byte{f}, 32))
	}
	r, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	p.mu.Lock()
	p.rings[name] = r
	delete(p.away, name)
	p.mu.Unlock()
	r.Start()
	t.Cleanup(r.Close)
	return r
}

// leave takes a peer away.
func (p *party) leave(name string) {
	p.mu.Lock()
	p.away[name] = true
	r := p.rings[name]
	p.mu.Unlock()
	r.Close()
}

// deliver hands frame to one peer; nil when it is away.
func (p *party) deliver(name string, frame []byte) error {
	p.mu.Lock()
	r, away := p.rings[name], p.away[name]
	p.mu.Unlock()
	if r == nil || away {
		return errors.New("connection refused")
	}
	return r.Take(bytes.Clone(frame))
}

func (g guest) others(away bool) (out []Member) {
	g.p.mu.Lock()
	defer g.p.mu.Unlock()
	for name := range g.p.rings {
		if name != g.self.Name && g.p.away[name] == away {
			out = append(out, member(name))
		}
	}
	slices.SortFunc(out, func(a, b Member) int { return cmp.Compare(a.Name, b.Name) })
	return out
}

func (g guest) Self() Member   { return g.self }
func (g guest) Live() []Member { return g.others(false) }
func (g guest) Absent() (out []string) {
	for _, m := range g.others(true) {
		out = append(out, m.Name)
	}
	return out
}

func (g guest) find(fits func(Member) bool) (Member, bool) {
	all := append(g.others(false), g.others(true)...)
	if i := slices.IndexFunc(all, fits); i >= 0 {
		return all[i], true
	}
	return Member{}, false
}

func (g guest) Instance(i uint64) (Member, bool) {
	return g.find(func(m Member) bool { return m.Instance == i })
}

func (g guest) At(a netip.AddrPort) (Member, bool) {
	return g.find(func(m Member) bool { return m.Addr == a })
}

func (g guest) Tell(to []Member, frame []byte) {
	for _, m := range to {
		_ = g.p.deliver(m.Name, frame)
	}
}

func (g guest) Broadcast(_ string, frame []byte) { g.Tell(g.Live(), frame) }

func (g guest) Send(ctx context.Context, to Member, frame []byte, key *Key) error {
	if ctx.Err() != nil {
		return ctx.Err()
	}
	g.p.mu.Lock()
	r := g.p.rings[to.Name]
	g.p.sent++
	g.p.mu.Unlock()
	// It comes encrypted, so a peer without the key never sees it.
	if _, _, err := r.Open(nil, key.Seal(nil, frame, nil), nil); err != nil {
		return nil //nolint:nilerr // the sender does not hear of it
	}
	return g.p.deliver(to.Name, frame)
}

// keys draws the keys of all that are there: "a=2,1* b=2,1*".
func (p *party) keys() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	var out []string
	for _, name := range slices.Sorted(maps.Keys(p.rings)) {
		if p.away[name] {
			continue
		}
		var ks []string
		for _, k := range p.rings[name].set.Load().keys {
			s := fmt.Sprint(k.raw[0])
			if k.Old() {
				s += "*"
			}
			ks = append(ks, s)
		}
		out = append(out, name+"="+strings.Join(ks, ","))
	}
	return strings.Join(out, " ")
}

func (p *party) want(t *testing.T, want string) {
	t.Helper()
	synctest.Wait()
	if got := p.keys(); got != want {
		t.Errorf("keys %q, want %q", got, want)
	}
}

// outcomes draws a report: "a b!no answer c".
func outcomes(r Report) string {
	var out []string
	for _, m := range r.Members {
		s := m.Name
		if m.Err != nil {
			s += "!" + m.Err.Error()
		}
		out = append(out, s)
	}
	return strings.Join(out, " ")
}

func TestCommands(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newParty(t, "abc", 1)
		a, ctx := p.rings["a"], t.Context()
		for _, step := range []struct {
			what string
			do   func() (Report, error)
			want string
		}{
			{"list", func() (Report, error) { return a.List(ctx) }, "a=1 b=1 c=1"},
			{"install", func() (Report, error) { return a.Install(ctx, key(t, 2).raw) }, "a=1,2 b=1,2 c=1,2"},
			{"use", func() (Report, error) { return a.Use(ctx, key(t, 2).fingerprint) }, "a=2,1* b=2,1* c=2,1*"},
			{"rotate", func() (Report, error) { return p.rings["b"].Rotate(ctx, key(t, 3).raw) }, "a=3,2*,1* b=3,2*,1* c=3,2*,1*"},
			{"remove", func() (Report, error) { return p.rings["c"].Remove(ctx, key(t, 1).fingerprint) }, "a=3,2* b=3,2* c=3,2*"},
		} {
			r, err := step.do()
			if err != nil || outcomes(r) != "a b c" || len(r.Absent) != 0 {
				t.Errorf("%s: %v, %s, absent %q", step.what, err, outcomes(r), r.Absent)
			}
			p.want(t, step.want)
			for _, m := range r.Members {
				if got := p.rings[m.Name].set.Load().fingerprints(); !slices.Equal(m.Keys, got) {
					t.Errorf("%s: %s answers %q and has %q", step.what, m.Name, m.Keys, got)
				}
			}
		}
		for what, err := range map[string]error{
			"unknown to use":    second(a.Use(ctx, "0123456789abcdef")),
			"unknown to remove": second(a.Remove(ctx, "0123456789abcdef")),
		} {
			if !errors.Is(err, ErrUnknown) {
				t.Errorf("%s: %v", what, err)
			}
		}
		if err := second(a.Remove(ctx, key(t, 3).fingerprint)); !errors.Is(err, ErrPrimary) {
			t.Errorf("the key in use removed: %v", err)
		}
		time.Sleep(time.Hour + 2*time.Second)
		p.want(t, "a=3 b=3 c=3")
	})
}

func second(_ Report, err error) error { return err }

// A member that is live and does not answer, or refuses.
func TestCommandsSayWhoDidNot(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newParty(t, "ab", 1)
		p.start(t, "c", 9) // it understands nobody
		r, err := p.rings["a"].Rotate(t.Context(), key(t, 2).raw)
		if err != nil || !strings.HasPrefix(outcomes(r), "a b c!no answer") {
			t.Errorf("%v, %s", err, outcomes(r))
		}
		p.want(t, "a=2,1* b=2,1* c=9")
		if p.sent < 2*5 { // it was asked again and again
			t.Errorf("%d frames were sent", p.sent)
		}
		full := p.rings["b"]
		for i := range maxKeys - 2 {
			full.set.Store(full.set.Load().with(key(t, byte(100+i))))
		}
		r, err = p.rings["a"].Rotate(t.Context(), key(t, 3).raw)
		if err == nil || !strings.Contains(err.Error(), "b did not take it") || !strings.Contains(outcomes(r), "b!refused: it has") {
			t.Errorf("%v, %s", err, outcomes(r))
		}
		if p.rings["a"].Primary() != key(t, 2).fingerprint {
			t.Error("a key that one member refused is used")
		}
	})
}

// A member that was absent is handed the key by the one that hears from it.
func TestHandoff(t *testing.T) {
	for how, stale := range map[string]func(r *Keyring){
		"a datagram": func(r *Keyring) { r.Stale(key(t, 1).fingerprint, member("c").Addr, 0) },
		"a stream":   func(r *Keyring) { r.Stale(key(t, 1).fingerprint, netip.AddrPort{}, member("c").Instance) },
	} {
		t.Run(how, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				p := newParty(t, "abc", 1)
				p.leave("c")
				r, err := p.rings["a"].Rotate(t.Context(), key(t, 2).raw)
				if err != nil || outcomes(r) != "a b" || !slices.Equal(r.Absent, []string{"c"}) || time.Until(r.Until) != time.Hour {
					t.Errorf("%v, %s, absent %q until %v", err, outcomes(r), r.Absent, r.Until)
				}
				time.Sleep(10 * time.Minute)
				c := p.start(t, "c", 1)
				before := p.sent
				for range 50 {
					stale(p.rings["b"])
				}
				p.want(t, "a=2,1* b=2,1* c=2,1*")
				if p.sent != before+1 {
					t.Errorf("handed over %d times", p.sent-before)
				}
				if left := time.Until(c.Keys()[1].Until); left != 50*time.Minute {
					t.Errorf("its old key stays for %v, want as long as the others'", left)
				}
				time.Sleep(handoffEvery)
				// By then it has it; whoever is asked with an unknown key sends nothing.
				before = p.sent
				p.rings["b"].Stale("0123456789abcdef", member("c").Addr, 0)
				p.rings["b"].Stale(key(t, 2).fingerprint, member("a").Addr, 0)
				p.rings["b"].Stale(key(t, 1).fingerprint, member("z").Addr, 0)
				time.Sleep(time.Second)
				if p.sent != before {
					t.Errorf("%d frames for nobody", p.sent-before)
				}
			})
		})
	}
}

// A cluster in plain text becomes an encrypted one, and not before all have
// the key.
func TestSwitch(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newParty(t, "abc")
		all := func(f func(s Status) bool) bool {
			for _, r := range p.rings {
				if !f(r.Status()) {
					return false
				}
			}
			return true
		}
		if err := second(p.rings["a"].Rotate(t.Context(), nil)); !errors.Is(err, ErrPlain) {
			t.Errorf("rotate in plain text: %v", err)
		}
		for _, n := range []string{"a", "b"} {
			r, err := p.rings[n].Install(t.Context(), key(t, 1).raw)
			if err != nil || outcomes(r) != n || !slices.Contains(r.Absent, "c") {
				t.Errorf("%v, %s, absent %q", err, outcomes(r), r.Absent)
			}
			time.Sleep(time.Minute)
		}
		if a := p.rings["a"]; a.Status().Encrypted || !a.TakesPlain() || a.Sends() != nil {
			t.Error("encrypted before all have the key")
		}
		if got := p.rings["a"].Status().Stalled; !slices.Equal(got, []string{"c"}) {
			t.Errorf("waits for %q, want c", got)
		}
		if err := second(p.rings["a"].Install(t.Context(), key(t, 2).raw)); !errors.Is(err, ErrSwitching) {
			t.Errorf("another key meanwhile: %v", err)
		}
		if r, err := p.rings["c"].Install(t.Context(), key(t, 1).raw); err != nil || len(r.Absent) != 0 {
			t.Errorf("%v, absent %q", err, r.Absent)
		}
		if all(func(s Status) bool { return s.Encrypted }) {
			t.Error("encrypted without the steps between")
		}
		start := time.Now()
		for !all(func(s Status) bool { return s.Encrypted }) {
			if time.Since(start) > 20*time.Second {
				t.Fatal("not encrypted 20 s after the last key")
			}
			time.Sleep(100 * time.Millisecond)
		}
		t.Logf("encrypted %v after the last key", time.Since(start))
		if p.rings["b"].TakesPlain() || p.rings["b"].Sends() == nil {
			t.Error("plain text is taken in or sent")
		}
	})
}

// An old command, recorded and sent again, and one signed with an old key.
func TestCommandsAreNotReplayed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newParty(t, "ab", 1)
		b := p.rings["b"]
		do := func(by *Key, cmd command) error {
			cmd.from = member("a").Instance
			err := b.Take(b.signFrame(by, cmd.encode()))
			synctest.Wait()
			return err
		}
		first := func() byte { return b.set.Load().keys[0].raw[0] }
		to := func(fill byte, epoch uint64) command {
			return command{epoch: epoch, op: opRotate, grace: 3600, key: key(t, fill).raw}
		}
		if err := do(key(t, 1), to(2, 100)); err != nil || first() != 2 {
			t.Fatalf("rotate: %v, uses %d", err, first())
		}
		if err := do(key(t, 2), to(3, 200)); err != nil || first() != 3 {
			t.Fatalf("rotate: %v, uses %d", err, first())
		}
		for _, tt := range []struct {
			what string
			by   *Key
			cmd  command
		}{
			{"the first one again", key(t, 1), to(2, 100)},
			{"the second one again", key(t, 2), to(3, 200)},
			{"with an old key", key(t, 2), to(66, 300)},
			{"with an unknown key", key(t, 66), to(66, 300)},
			{"an old epoch", key(t, 3), to(2, 150)},
			{"a removal with an old key", key(t, 1), command{epoch: 400, op: opRemove, key: []byte(key(t, 2).fingerprint)}},
			{"a removal of the key in use", key(t, 3), command{epoch: 400, op: opRemove, key: []byte(key(t, 3).fingerprint)}},
		} {
			before := b.set.Load()
			err := do(tt.by, tt.cmd)
			if tt.by.fingerprint != b.Primary() && tt.cmd.epoch != before.epoch && !errors.Is(err, errOldKey) {
				t.Errorf("%s: got %v, want it refused unheard", tt.what, err)
			}
			if now := b.set.Load(); !now.equal(before) {
				t.Errorf("%s: changed the keys to %q", tt.what, now.fingerprints())
			}
		}
		frame := b.signFrame(key(t, 3), command{from: member("a").Instance, epoch: 500, op: opRotate, key: key(t, 4).raw}.encode())
		for i := range frame {
			bad := slices.Clone(frame)
			bad[i] ^= 1
			_ = b.Take(bad)
		}
		synctest.Wait()
		if first() != 3 {
			t.Error("a command with a flipped bit was obeyed")
		}
		for _, bad := range [][]byte{nil, {FrameCommand}, {FrameAnswer}, {'?'}} {
			if err := b.Take(bad); !errors.Is(err, errWire) {
				t.Errorf("%x: %v", bad, err)
			}
		}
	})
}

// An answer counts when it comes from a member that was asked.
func TestAnswersOfOthersDoNotCount(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := newParty(t, "ab", 1).rings["a"]
		q := &question{answers: map[uint64]*answer{member("b").Instance: nil}, news: make(chan struct{}, 1)}
		id := a.newQuestion(q)
		for _, from := range []string{"c", "b"} {
			if err := a.Take(a.signFrame(key(t, 1), answer{id: id, from: member(from).Instance}.encode())); err != nil {
				t.Error(err)
			}
		}
		if len(q.answers) != 1 || q.answers[member("b").Instance] == nil {
			t.Errorf("answers %v, want that of b alone", q.answers)
		}
	})
}

// What comes after Close is dropped, and Close waits for what came before.
func TestClose(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newParty(t, "ab", 1)
		b := p.rings["b"]
		cmd := command{from: member("a").Instance, epoch: 100, op: opRotate, key: key(t, 2).raw}
		_ = b.Take(b.signFrame(key(t, 1), cmd.encode()))
		b.Close()
		b.Close()
		if got := b.set.Load().keys[0].raw[0]; got != 2 {
			t.Errorf("it uses %d: the command before Close was dropped", got)
		}
		cmd.epoch, cmd.key = 200, key(t, 3).raw
		_ = b.Take(b.signFrame(key(t, 2), cmd.encode()))
		b.Stale(key(t, 1).fingerprint, member("a").Addr, 0)
		synctest.Wait()
		if got := b.set.Load().keys[0].raw[0]; got != 2 {
			t.Errorf("it uses %d: a command after Close was obeyed", got)
		}
		if m, _, err := b.Open(nil, b.Sends().Seal(nil, []byte("x"), nil), nil); string(m) != "x" || err != nil {
			t.Errorf("after Close: %q, %v", m, err)
		}
	})
}

// A packet costs the memory of its message and no more.
func BenchmarkPacket(b *testing.B) {
	r, err := New(Config{Label: "peer", Keys: [][]byte{bytes.Repeat([]byte{1}, 32)}})
	if err != nil {
		b.Fatal(err)
	}
	message, ad := make([]byte, 1000), []byte("peer")
	buf := make([]byte, 0, 2000)
	b.ReportAllocs()
	for b.Loop() {
		sealed := r.Sends().Seal(buf, message, ad)
		if _, _, err := r.Open(nil, sealed, ad); err != nil {
			b.Fatal(err)
		}
	}
}
