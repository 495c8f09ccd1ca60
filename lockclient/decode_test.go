package lockclient

import (
	"strings"
	"testing"
	"testing/quick"
	"time"
)

func FuzzDecodeAnswer(f *testing.F) {
	for _, s := range []string{
		"", "1", "1 5 6", "0 1 250 17 4 a/b/1|4|99|{}", "0 0 -1 0 0 ", "0 -1 0 0 0 x", "1 99999999999999999999 1", "0 1 2", "2 1 2",
	} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		a, ok := decodeAnswer(s)
		switch {
		case !ok:
		case a.held && a.fence == 0:
			t.Errorf("%q: held without a fence", s)
		case a.position < 0, a.pttl > 2*MaxTTL:
			t.Errorf("%q: got %+v", s, a)
		}
	})
}

func FuzzDecodeBeat(f *testing.F) {
	f.Add("250 4 1,2,0 a/b/1|4|99|{}", 3)
	f.Add("-2 0 0 ", 1)
	f.Add("1 1 , ", 2)
	f.Fuzz(func(t *testing.T, s string, n int) {
		answers, ok := decodeBeat(s, n)
		if ok && len(answers) != n {
			t.Errorf("%q: %d answers for %d", s, len(answers), n)
		}
	})
}

func FuzzDecodeValue(f *testing.F) {
	f.Add(`a/b/1|4|99|{"node":"a","pid":1,"cmd":"x","ttl_ms":5}`)
	f.Add("|||")
	f.Add("a|1|2|{]")
	f.Add(`%ZZ/b|1|2|{"ttl_ms":-5}`)
	f.Fuzz(func(t *testing.T, s string) {
		v, ok := decodeValue(s)
		if ok && (v.ttl < 0 || strings.Contains(v.id, "|")) {
			t.Errorf("%q: got %+v", s, v)
		}
		_ = v.holder.String()
		decodeWaiter("a/b/1", s)
	})
}

func FuzzDecodeMessage(f *testing.F) {
	f.Add("grant a/b/1 5 6 7 peer:{demo}")
	f.Add("lost a/b/1 5 0 0 peer:{a b}")
	f.Add("grant     ")
	f.Fuzz(func(t *testing.T, s string) {
		m, ok := decodeMessage(s)
		if ok && (m.fence == 0 || m.claim < 0 || m.kind != "grant" && m.kind != "lost") {
			t.Errorf("%q: got %+v", s, m)
		}
		if name, ok := nameOf("peer:", m.key); ok && checkName(name) != nil {
			t.Errorf("%q: bad name %q", s, name)
		}
	})
}

func FuzzDecodeInfo(f *testing.F) {
	f.Add("5", int64(1), "a/b/1|4|99|{}", int64(20), "c/d/2", "9|5|P|x|ch|{}")
	f.Add("x", int64(-1), "", int64(-1), "", "")
	f.Add("1", int64(1<<62), "", int64(-1), "", "")
	f.Fuzz(func(t *testing.T, fence string, holders int64, v string, pttl int64, id, record string) {
		for _, reply := range [][]any{
			{fence, holders, v, pttl, id, record},
			{fence, holders, v, pttl},
			{fence, holders, id, record},
			{fence, holders, v},
			{holders, fence},
			{fence},
		} {
			info, ok := decodeInfo("demo", reply)
			if ok && (info.ExpiresIn < 0 || len(info.Holders) > 1) {
				t.Errorf("got %+v", info)
			}
		}
	})
}

// What a script makes of a hold is what the client makes of it.
func TestValueRoundTrip(t *testing.T) {
	if err := quick.Check(func(node string, pid int, command string, fence uint64, ms uint32) bool {
		cfg := Config{Node: node, PID: pid, Command: command}
		node = strings.ToValidUTF8(node, "�")
		s := encodeValue(escapeNode(node)+"/1/2", fence, int64(ms), cfg.meta(time.Second, true))
		v, ok := decodeValue(s)
		return ok && v.fence == fence && v.holder.Since.Equal(time.UnixMilli(int64(ms))) && v.shared && v.ttl == time.Second &&
			v.holder.PID == pid && v.holder.Node == node && v.holder.Command == strings.ToValidUTF8(command, "�")
	}, nil); err != nil {
		t.Error(err)
	}
}

func TestKeys(t *testing.T) {
	for _, name := range []string{"demo", "{", "}", "a{b}c", "100%", "%7B", "ü", "a b", strings.Repeat("{", MaxName)} {
		k := lockKeys("peer:", name)
		if strings.Count(k[0], "{") != 1 || strings.Count(k[0], "}") != 1 || !strings.HasSuffix(k[0], "}") {
			t.Errorf("%q: %q has more than one hash tag", name, k[0])
		}
		for i, suffix := range []string{"", ":f", ":q", ":w", ":h"} {
			if k[i] != k[0]+suffix {
				t.Errorf("%q: key %d is %q, want %q", name, i, k[i], k[0]+suffix)
			}
			if got, ok := nameOf("peer:", k[i]); !ok || got != name {
				t.Errorf("%q: key %q is that of %q, %v", name, k[i], got, ok)
			}
		}
	}
	for _, key := range []string{"", "peer:", "peer:{", "other:{demo}", "peer:{}", "peer:{%zz}", "peer:{%7}", "peer:process:a/b"} {
		if name, ok := nameOf("peer:", key); ok {
			t.Errorf("%q is no lock's, got %q", key, name)
		}
	}
}

func TestParseURL(t *testing.T) {
	for raw, want := range map[string]string{
		"redis://127.0.0.1":             "127.0.0.1:6379",
		"redis://[::1]:7000/2":          "[::1]:7000",
		"redis://[::1]":                 "[::1]:6379",
		"redis://:secret@example.com":   "example.com:6379",
		"rediss://example.com:1":        "example.com:1",
		"unix:///run/redis.sock?db=1":   "/run/redis.sock",
		"redis+sentinel://a,b:1/main/3": "main of a:26379,b:1",
		"rediss+cluster://a:1,b":        "a:1,b:6379",
		"":                              "",
		"redis://a,b":                   "",
		"redis://a:0":                   "",
		"redis://a:65536":               "",
		"redis://a/x":                   "",
		"redis://a/-1":                  "",
		"redis://a?password=x":          "",
		"redis+sentinel://a":            "",
		"redis+cluster://a/1":           "",
		"redis+other://a":               "",
		"unix://host/path":              "",
		"unix://":                       "",
		"127.0.0.1:6379":                "",

		"redis+sentinel://a/m?sentinel_password=": "m of a:26379",
	} {
		opt, err := parseURL(raw)
		got := ""
		if err == nil {
			got = address(opt)
		}
		if got != want || err == nil && strings.Contains(got, "secret") {
			t.Errorf("%q: got %q, %v, want %q", raw, got, err, want)
		}
	}
}

func TestBackoff(t *testing.T) {
	c := &Client{}
	for attempt := range 20 {
		for range 100 {
			if d := c.backoff(attempt); d < 50*time.Millisecond || d > 1500*time.Millisecond {
				t.Fatalf("attempt %d: %v", attempt, d)
			}
		}
	}
}

// Up for 2 may be little more than one second: both ends are rounded down.
func TestUptimeIsTheLeast(t *testing.T) {
	for n, want := range map[string]time.Duration{"0": 0, "1": 0, "2": time.Second, "3600": 3599 * time.Second} {
		if got, ok := uptime("# Server\r\nuptime_in_seconds:" + n + "\r\nuptime_in_days:0\r\n"); got != want || !ok {
			t.Errorf("up for %s: got %v, %v, want %v", n, got, ok, want)
		}
	}
	for _, bad := range []string{"", "uptime_in_seconds:\r\n", "uptime_in_seconds:x\r\n"} {
		if got, ok := uptime(bad); ok {
			t.Errorf("%q: got %v", bad, got)
		}
	}
}
