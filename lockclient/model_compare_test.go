package lockclient_test

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/redis/go-redis/v9"
)

// heard returns what was published before the marker of moment i.
func (b *replayBatch) heard(ctx context.Context, i int) ([]string, error) {
	var heard []string
	for {
		msg, err := b.s.sub.ReceiveTimeout(ctx, replayWait)
		if err != nil {
			return nil, err
		}
		m, ok := msg.(*redis.Message)
		switch {
		case !ok:
		case m.Channel == replayMarker && m.Payload == strconv.Itoa(i):
			return heard, nil
		case m.Channel == replayMarker:
			return nil, fmt.Errorf("marker %s, want %d", m.Payload, i)
		default:
			heard = append(heard, m.Channel+" "+m.Payload)
		}
	}
}

func (b *replayBatch) compare(ctx context.Context, a replayAsked) error {
	m := &b.r.moments[a.at]
	differs := func(what, got, want string) error {
		return fmt.Errorf("%s, step %d of %v: %s %q\n got %s\nwant %s",
			b.r.name, a.at, b.r.steps[:a.at+1], modelScriptNames[m.effect.call.script], m.args, what+" "+got, what+" "+want)
	}
	heard, err := b.heard(ctx, a.at)
	if err != nil {
		return differs("subscription", err.Error(), "")
	}
	if a.answer != nil {
		got := replayAnswer(a.answer, m.effect.call.script, a.batched)
		if got != m.answer {
			return differs("answer", got, m.answer)
		}
	}
	if !slices.Equal(heard, m.pushes) {
		return differs("pushes", strings.Join(heard, "; "), strings.Join(m.pushes, "; "))
	}
	if got := replayKept(a.look, m.micros); got != m.kept {
		return differs("keys", got, m.kept)
	}
	if got := replayInspected(a.state, m.micros); got != m.inspects {
		return differs("inspect", got, m.inspects)
	}
	return nil
}

// ticksOf is a number of ms in ticks; what is not positive stays.
func ticksOf(ms string) string {
	n, err := strconv.ParseInt(ms, 10, 64)
	if err != nil || n <= 0 {
		return ms
	}
	return strconv.FormatInt((n+tickMillis-1)/tickMillis, 10)
}

// replayAnswer writes an answer as the model does.
func replayAnswer(cmd *redis.Cmd, script modelScript, batched bool) string {
	v, err := cmd.Result()
	if err != nil {
		return err.Error()
	}
	list, _ := v.([]any)
	if batched {
		if len(list) != 1 {
			return fmt.Sprint(v)
		}
		v = list[0]
	}
	switch script {
	case callAcquire, callTry, callBeat:
		f := strings.Split(fmt.Sprint(v), " ")
		switch {
		case script == callBeat:
			f[0] = ticksOf(f[0])
		case f[0] == "0" && len(f) > 2:
			f[2] = ticksOf(f[2])
		}
		return strings.Join(f, " ")
	case callForce:
		if len(list) == 2 {
			n, _ := strconv.ParseInt(ticksOf(fmt.Sprint(list[1])), 10, 64)
			return fmt.Sprint([]any{list[0], n})
		}
	}
	return fmt.Sprint(v)
}

// replayWaiter writes a record as the model does; live is false when its time is
// over.
func replayWaiter(record string, micros int64) (text string, live bool) {
	deadline, rest, _ := strings.Cut(record, "|")
	ms, err := strconv.ParseInt(deadline, 10, 64)
	if err != nil {
		return "bad record " + record, true
	}
	left := ms - micros/1000
	if left <= 0 {
		return "", false
	}
	if left%tickMillis != 0 {
		return "odd deadline " + record, true
	}
	return strconv.FormatInt(left/tickMillis, 10) + "|" + rest, true
}

// replayKept writes what the look script read as the model does.
func replayKept(cmd *redis.Cmd, micros int64) string {
	v, err := replayStrings(cmd)
	if err != nil {
		return err.Error()
	}
	var b strings.Builder
	ttl := ticksOf(v[1])
	if v[0] == "" && ttl == "-2" {
		ttl = "0"
	}
	fmt.Fprintf(&b, "hold %q for %s, fence %q", v[0], ttl, v[2])
	waiters := v[6:]
	for i := 0; i+2 < len(waiters); i += 3 {
		place, _ := strconv.ParseFloat(waiters[i+1], 64)
		fmt.Fprintf(&b, ", waiter %s at %.0f", waiters[i], place)
		if text, live := replayWaiter(waiters[i+2], micros); live {
			b.WriteString(" " + text)
		}
	}
	n := strconv.Itoa(len(waiters) / 3)
	if v[3] != n {
		fmt.Fprintf(&b, ", %s records of %s waiters", v[3], n)
	}
	if n != "0" && (v[4] == "-1" || v[5] == "-1") {
		b.WriteString(", a queue that stays for ever")
	}
	return b.String()
}

func replayStrings(cmd *redis.Cmd) ([]string, error) {
	list, err := cmd.Slice()
	v := make([]string, len(list))
	for i := range list {
		v[i] = fmt.Sprint(list[i])
	}
	return v, err
}

// replayInspected writes what inspect.lua answered as the model does.
func replayInspected(cmd *redis.Cmd, micros int64) string {
	v, err := replayStrings(cmd)
	if err != nil {
		return err.Error()
	}
	first := 2
	if len(v) > 3 && v[1] == "1" {
		v[3] = ticksOf(v[3])
		first = 4
	}
	for i := first + 1; i < len(v); i += 2 {
		v[i], _ = replayWaiter(v[i], micros)
	}
	return strings.Join(v, " ")
}
