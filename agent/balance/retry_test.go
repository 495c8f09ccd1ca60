package balance_test

import (
	"errors"
	"io"
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/peerhq/peer/agent/balance"
	"github.com/peerhq/peer/selector"
)

// What may be sent again, and what not.
func TestWhatIsRetried(t *testing.T) {
	with := func(r *http.Request, key string) *http.Request {
		r.Header.Set(key, "1")
		return r
	}
	stream := func(method string) *http.Request {
		r := request(method, io.NopCloser(strings.NewReader("body")))
		r.ContentLength = 4
		return r
	}
	for name, c := range map[string]struct {
		req   *http.Request
		first http.HandlerFunc // nil refuses
		want  int              // peers that see it
	}{
		"GET":                                {request("GET", nil), answer(503), 2},
		"HEAD":                               {request("HEAD", nil), answer(502), 2},
		"OPTIONS":                            {request("OPTIONS", nil), answer(504), 2},
		"TRACE":                              {request("TRACE", nil), answer(503), 2},
		"DELETE":                             {request("DELETE", nil), answer(503), 2},
		"PUT":                                {request("PUT", strings.NewReader("body")), answer(503), 2},
		"PUT without a body":                 {request("PUT", http.NoBody), answer(503), 2},
		"POST":                               {request("POST", strings.NewReader("body")), answer(503), 1},
		"PATCH":                              {request("PATCH", strings.NewReader("body")), answer(503), 1},
		"POST with Idempotency-Key":          {with(request("POST", strings.NewReader("body")), "Idempotency-Key"), answer(503), 2},
		"POST with X-Idempotency-Key":        {with(request("POST", nil), "X-Idempotency-Key"), answer(503), 2},
		"GET, reset":                         {request("GET", nil), reset, 2},
		"POST, reset":                        {request("POST", strings.NewReader("body")), reset, 1},
		"GET, another status":                {request("GET", nil), answer(500), 1},
		"GET, too many requests":             {request("GET", nil), answer(429), 1},
		"PUT of a stream, read":              {stream("PUT"), answer(503), 1},
		"PUT of a stream, reset":             {stream("PUT"), reset, 1},
		"GET, refused":                       {request("GET", nil), nil, 1},
		"POST, refused":                      {request("POST", strings.NewReader("body")), nil, 1},
		"POST of a stream, refused":          {stream("POST"), nil, 1},
		"a keyed POST of a stream, answered": {with(stream("POST"), "Idempotency-Key"), answer(503), 1},
	} {
		bubble(t, name, func(t *testing.T) {
			f := newFarm(t, func(c *balance.Config) { c.Policy = selector.ByKey }, c.first, answer(200), answer(200))
			// By key, so that a is the first, and c the second.
			key := keyOf(f.web, "a c")
			f.tr.Key = func(*http.Request) string { return key }
			closed := &closing{}
			if c.req.Body != nil && c.req.Body != http.NoBody {
				closed.Reader, c.req.Body = c.req.Body, closed
			}
			_, err := f.send(c.req)
			hits := f.took()
			if len(hits) != c.want {
				t.Errorf("%d peers have seen it: %q, %v", len(hits), hits, err)
			}
			for _, h := range hits {
				if c.req.ContentLength > 0 && !strings.HasSuffix(h, " body") {
					t.Errorf("a peer has seen %q", h)
				}
			}
			if c.first == nil && (err != nil || len(hits) > 0 && hits[0][0] != 'c') {
				t.Errorf("refused by the first, seen by %q: %v", hits, err)
			}
			if closed.Reader != nil && closed.n.Load() != 1 {
				t.Errorf("the request's body was closed %d times", closed.n.Load())
			}
			f.balanced()
		})
	}
}

// Never the same peer twice, and never more than so many.
func TestTries(t *testing.T) {
	bubble(t, "all refuse", func(t *testing.T) {
		f := newFarm(t, nil, nil, nil, nil, nil)
		f.tr.Attempts = 10
		_, err := f.get()
		var tried *balance.TriedError
		if !errors.As(err, &tried) || len(tried.Tries) != 4 || !strings.Contains(err.Error(), "from any of 4 peers") {
			t.Fatalf("got %v", err)
		}
		seen := map[string]bool{}
		for _, try := range tried.Tries {
			if seen[try.Peer.Name] || try.Err == nil || try.Status != 0 || !strings.Contains(err.Error(), try.Peer.HostPort()) {
				t.Errorf("a try of %s: %+v", try.Peer.Name, try)
			}
			seen[try.Peer.Name] = true
		}
		f.balanced()
	})
	bubble(t, "all are unwell", func(t *testing.T) {
		f := newFarm(t, nil, answer(503), answer(503), answer(503), answer(503), answer(503))
		body, err := f.get()
		hits := f.took()
		if err != nil || len(hits) != 3 || body != "503 by "+hits[2][:1] {
			t.Errorf("got %q, %v, from %q: want the third answer", body, err, hits)
		}
		slices.Sort(hits)
		if len(slices.Compact(hits)) != 3 {
			t.Errorf("one was asked twice: %q", hits)
		}
		f.balanced()
	})
	bubble(t, "the only one is unwell", func(t *testing.T) {
		f := newFarm(t, nil, answer(503))
		if body, err := f.get(); err != nil || body != "503 by a" {
			t.Errorf("got %q, %v", body, err)
		}
		f.balanced()
	})
	bubble(t, "an answer, then none", func(t *testing.T) {
		f := newFarm(t, nil, answer(503), nil)
		f.tr.Key = func(*http.Request) string { return "" }
		for range 4 {
			if body, err := f.get(); err == nil && body != "503 by a" {
				t.Errorf("got %q", body)
			}
		}
		f.balanced()
	})
}

func TestRetryStatus(t *testing.T) {
	for name, c := range map[string]struct {
		set  []int
		code int
		want int
	}{
		"default 503":      {nil, 503, 2},
		"default 500":      {nil, 500, 1},
		"500 in the set":   {[]int{500}, 500, 2},
		"503 not in it":    {[]int{500}, 503, 1},
		"none, and so 503": {[]int{}, 503, 1},
	} {
		bubble(t, name, func(t *testing.T) {
			f := newFarm(t, nil, answer(c.code), answer(c.code))
			f.tr.RetryStatus = c.set
			if _, err := f.get(); err != nil {
				t.Error(err)
			}
			if got := len(f.took()); got != c.want {
				t.Errorf("%d peers were asked, want %d", got, c.want)
			}
			strikes := f.standing("a").Strikes + f.standing("b").Strikes
			if blamed := strikes > 0; blamed != (c.want == 2) {
				t.Errorf("%d failures are reported", strikes)
			}
			f.balanced()
		})
	}
}
