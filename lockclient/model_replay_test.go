package lockclient_test

import (
	"context"
	"errors"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/alicebob/miniredis/v2"
	"github.com/redis/go-redis/v9"
)

// A replayServer runs the scripts as the model says. On the embedded Redis they
// are as they are shipped, and its clock is set. On redis-server they read the
// time from a key, and a tick shortens what the keys have left to live.
type replayServer struct {
	mini    *miniredis.Miniredis // nil for redis-server
	rdb     *redis.Client
	sub     *redis.PubSub
	hashes  map[string]string
	listens [modelClients]bool
}

const (
	replayClock  = "clock" // the key with the time
	replayMarker = "marker"
	replayWait   = 3 * time.Second
)

// The test's own scripts.
var replayScripts = map[string]string{
	"look": `
local out = {redis.call('GET', KEYS[1]) or '', redis.call('PTTL', KEYS[1]), redis.call('GET', KEYS[2]) or '',
  redis.call('HLEN', KEYS[4]), redis.call('PTTL', KEYS[3]), redis.call('PTTL', KEYS[4])}
local queue = redis.call('ZRANGE', KEYS[3], 0, -1, 'WITHSCORES')
for i = 1, #queue, 2 do
  out[#out + 1] = queue[i]
  out[#out + 1] = queue[i + 1]
  out[#out + 1] = redis.call('HGET', KEYS[4], queue[i]) or ''
end
return out`,
	"tick": `
local left = redis.call('PTTL', KEYS[1])
if left >= 0 then
  left = left - ARGV[1]
  if left > 0 then redis.call('PEXPIRE', KEYS[1], left) else redis.call('DEL', KEYS[1]) end
end
return 0`,
	// From KEYS 1 to 5 to KEYS 6 to 10.
	"copy": `
for i = 1, 4 do
  local from, to = KEYS[i], KEYS[i + 5]
  redis.call('DEL', to)
  local left = redis.call('PTTL', from)
  if i < 3 then
    local v = redis.call('GET', from)
    if v then redis.call('SET', to, v) end
  elseif i == 3 then
    local v = redis.call('ZRANGE', from, 0, -1, 'WITHSCORES')
    for j = 1, #v, 2 do redis.call('ZADD', to, v[j + 1], v[j]) end
  else
    local v = redis.call('HGETALL', from)
    for j = 1, #v, 2 do redis.call('HSET', to, v[j], v[j + 1]) end
  end
  if left > 0 then redis.call('PEXPIRE', to, left) end
end
return 0`,
}

// What the scripts are called that the model runs.
var replayFiles = [...]string{"", "acquire", "acquire", "release", "renew", "leave", "beat", "force"}

func newReplayServer(t *testing.T, embedded bool) *replayServer {
	s := &replayServer{}
	var addr string
	if embedded {
		s.mini = miniredis.NewMiniRedis()
		if err := s.mini.StartAddr("127.0.0.1:0"); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(s.mini.Close)
		addr = s.mini.Addr()
	} else {
		addr = startRedis(t).addr
	}
	s.rdb = redis.NewClient(&redis.Options{Addr: addr, Protocol: 2, PoolSize: 2, ReadTimeout: replayWait})
	t.Cleanup(func() { s.rdb.Close() })
	s.sub = s.rdb.Subscribe(t.Context(), replayMarker)
	t.Cleanup(func() { s.sub.Close() })
	if err := s.confirmed(); err != nil {
		t.Fatal(err)
	}
	return s
}

// A scriptBug is a change of a script's source.
type scriptBug struct{ what, file, old, new string }

// source returns the script file with those it includes, changed by bug.
func source(t testing.TB, file string, bug *scriptBug) string {
	t.Helper()
	b, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	text := string(b)
	if bug != nil && bug.file == file {
		if n := strings.Count(text, bug.old); n != 1 {
			t.Fatalf("%s: %q is in it %d times, want once: mend the table", file, bug.old, n)
		}
		text = strings.Replace(text, bug.old, bug.new, 1)
	}
	var out strings.Builder
	for line := range strings.Lines(text) {
		if include, ok := strings.CutPrefix(strings.TrimSpace(line), "--#include "); ok {
			out.WriteString(source(t, include, bug))
		} else {
			out.WriteString(line)
		}
	}
	return out.String()
}

// load has the server know the scripts, changed by bug.
func (s *replayServer) load(t testing.TB, bug *scriptBug) {
	t.Helper()
	s.hashes = map[string]string{}
	know := func(name, text string) {
		hash, err := s.rdb.ScriptLoad(t.Context(), text).Result()
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		s.hashes[name] = hash
	}
	for name, text := range replayScripts {
		know(name, text)
	}
	for _, name := range []string{"acquire", "release", "renew", "leave", "beat", "force", "inspect", "batch"} {
		if _, err := os.Stat(name + ".lua"); err != nil {
			continue // batch.lua may go
		}
		text := source(t, name+".lua", bug)
		if s.mini == nil {
			n := strings.Count(text, "'TIME'")
			clock := "(function() local t = redis.call('GET', '" + replayClock + "') return {string.sub(t, 1, -7), string.sub(t, -6)} end)()"
			text = strings.ReplaceAll(text, "redis.call('TIME')", clock)
			text = strings.ReplaceAll(text, "call('TIME')", clock)
			if strings.Contains(text, "'TIME'") || n == 0 && strings.Contains(text, "TIME") {
				t.Fatalf("%s.lua reads the time in a way that the test does not know", name)
			}
		}
		know(name, text)
	}
}

func (s *replayServer) confirmed() error {
	for {
		msg, err := s.sub.ReceiveTimeout(context.Background(), replayWait)
		if err != nil {
			return err
		}
		if _, ok := msg.(*redis.Subscription); ok {
			return nil
		}
	}
}

// listen subscribes to the channels of those clients that are to listen.
func (s *replayServer) listen(ctx context.Context, who [modelClients]bool) error {
	for i := range who {
		if s.listens[i] == who[i] {
			continue
		}
		change := s.sub.Subscribe
		if !who[i] {
			change = s.sub.Unsubscribe
		}
		if err := change(ctx, traceChannel+"n"+strconv.Itoa(i)); err != nil {
			return err
		}
		if err := s.confirmed(); err != nil {
			return err
		}
		s.listens[i] = who[i]
	}
	return nil
}

func traceKeys(base string) []string {
	return []string{base, base + ":f", base + ":q", base + ":w", base + ":h"}
}

// A replayBatch are the steps that are sent to the server together.
type replayBatch struct {
	s     *replayServer
	pipe  redis.Pipeliner
	r     *modelTrace
	asked []replayAsked
}

type replayAsked struct {
	at                  int // moment
	batched             bool
	answer, look, state *redis.Cmd
}

// replay replays r, and returns where the server differs. Batched, it sends what
// it can through batch.lua.
func (s *replayServer) replay(r *modelTrace, batched bool) error {
	ctx := context.Background()
	if err := s.listen(ctx, [modelClients]bool{}); err != nil {
		return err
	}
	batched = batched && s.hashes["batch"] != ""
	b := &replayBatch{s: s, r: r, pipe: s.rdb.Pipeline()}
	b.pipe.FlushAll(ctx)
	b.clock(ctx, traceBegin)
	micros := int64(traceBegin)
	for i := range r.moments {
		m := &r.moments[i]
		ran := m.effect.call.script != callNone
		if ran {
			b.run(ctx, i, batched)
			b.look(ctx, i)
		}
		if m.step.op == opLose {
			b.pipe.Del(ctx, traceKeys(traceKey)...)
		}
		if m.micros != micros {
			if err := b.pass(ctx, m.step.op == opTick, m.micros); err != nil {
				return err
			}
			micros = m.micros
			if !ran {
				b.look(ctx, i)
			}
		}
		if m.listens != s.listens {
			if err := b.flush(ctx); err != nil {
				return err
			}
			if err := s.listen(ctx, m.listens); err != nil {
				return err
			}
		}
	}
	return b.flush(ctx)
}

// clock sets the server's clock.
func (b *replayBatch) clock(ctx context.Context, micros int64) {
	if b.s.mini != nil {
		b.s.mini.SetTime(time.UnixMicro(micros))
		return
	}
	b.pipe.Set(ctx, replayClock, micros, 0)
}

// pass sets the clock later, by a tick if there was one.
func (b *replayBatch) pass(ctx context.Context, tick bool, micros int64) error {
	if b.s.mini != nil {
		if err := b.flush(ctx); err != nil {
			return err
		}
	}
	b.clock(ctx, micros)
	switch {
	case tick && b.s.mini != nil:
		b.s.mini.FastForward(tickMillis * time.Millisecond)
	case tick:
		b.pipe.EvalSha(ctx, b.s.hashes["tick"], []string{traceKey}, tickMillis)
	}
	return nil
}

// run asks for the script of moment i.
func (b *replayBatch) run(ctx context.Context, i int, batched bool) {
	m := &b.r.moments[i]
	e := &m.effect
	keys, shadow := traceKeys(traceKey), traceKeys("shadow")
	if e.failover {
		b.pipe.EvalSha(ctx, b.s.hashes["copy"], slices.Concat(keys, shadow))
	}
	name := replayFiles[e.call.script]
	args := make([]any, 0, 8)
	letter := map[string]string{"acquire": "a", "release": "r"}[name]
	if batched = batched && letter != ""; batched {
		name, args = "batch", append(args, letter)
	}
	for _, a := range m.args {
		args = append(args, a)
	}
	b.asked = append(b.asked, replayAsked{at: i, batched: batched, answer: b.pipe.EvalSha(ctx, b.s.hashes[name], keys, args...)})
	if e.failover {
		b.pipe.EvalSha(ctx, b.s.hashes["copy"], slices.Concat(shadow, keys))
	}
}

// look asks for what is in the keys after moment i, and ends its pushes.
func (b *replayBatch) look(ctx context.Context, i int) {
	if n := len(b.asked); n == 0 || b.asked[n-1].at != i {
		b.asked = append(b.asked, replayAsked{at: i})
	}
	a := &b.asked[len(b.asked)-1]
	a.look = b.pipe.EvalSha(ctx, b.s.hashes["look"], traceKeys(traceKey))
	a.state = b.pipe.EvalSha(ctx, b.s.hashes["inspect"], traceKeys(traceKey))
	b.pipe.Publish(ctx, replayMarker, strconv.Itoa(i))
}

// flush sends what was asked, and compares the answers.
func (b *replayBatch) flush(ctx context.Context) error {
	if b.pipe.Len() == 0 {
		return nil
	}
	_, err := b.pipe.Exec(ctx)
	var reply redis.Error
	if err != nil && !errors.As(err, &reply) {
		return err
	}
	asked := b.asked
	b.asked = nil
	var differ error
	for _, a := range asked {
		if err := b.compare(ctx, a); err != nil && differ == nil {
			differ = err
		}
	}
	return differ
}
