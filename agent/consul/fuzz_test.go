package consul_test

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strconv"
	"testing"

	"github.com/peerhq/peer/agent/consul"
)

// Whatever is asked for, the answer is JSON with an index, or a line of text that
// says what is wrong with it.
func FuzzRead(f *testing.F) {
	for _, s := range []string{
		"catalog/services", "health/service/web?passing&tag=v1&near=_agent&index=7&wait=10s", "catalog/service/web?node-meta=a:b&dc=peer",
		"health/state/any?index=18446744073709551615", "catalog/node/a?wait=-1s", "kv/a?raw", "health/service/%2e%2e?passing=%zz", "x?index=1&index=2", "health/service/web?tag=;",
	} {
		f.Add(s)
	}
	source := newFake()
	source.set("web", source.on(0, nil), source.on(1, func(i *consul.Instance) { i.Tags = []string{"v1"} }))
	h := consul.New(source)
	gone, cancel := context.WithCancel(context.Background())
	cancel() // nobody waits
	f.Fuzz(func(t *testing.T, s string) {
		u, err := url.Parse("/v1/" + s)
		if err != nil || u.Host != "" {
			return
		}
		req := (&http.Request{Method: http.MethodGet, URL: u, Header: http.Header{}, Host: "localhost"}).WithContext(gone)
		w := httptest.NewRecorder()
		h.ServeHTTP(w, req)
		switch w.Code {
		case http.StatusOK:
			index, err := strconv.ParseUint(w.Header().Get("X-Consul-Index"), 10, 64)
			if err != nil || index == 0 || !json.Valid(w.Body.Bytes()) {
				t.Errorf("%q: index %d, %v: %s", s, index, err, w.Body)
			}
		case http.StatusBadRequest, http.StatusNotFound, http.StatusInternalServerError, http.StatusNotImplemented:
			if b := w.Body.Bytes(); len(b) < 5 || slices.Index(b, '\n') != len(b)-1 {
				t.Errorf("%q: %d %q", s, w.Code, b)
			}
		default:
			if w.Code/100 != 3 { // the mux redirects to a tidier path
				t.Errorf("%q: %d %s", s, w.Code, w.Body)
			}
		}
	})
}

// What a read of one service costs, and what each of many who wait for one of
// them pays when it changes.
func BenchmarkHealthService(b *testing.B) {
	for _, n := range []int{3, 100, 1000} {
		b.Run(fmt.Sprintf("instances=%d", n), func(b *testing.B) {
			f := newFake()
			var list []consul.Instance
			for i := range n {
				list = append(list, f.on(i%3, func(x *consul.Instance) { x.Port = uint16(i); x.Health = "passing" }))
			}
			f.set("web", list...)
			h := consul.New(f)
			b.ReportAllocs()
			for b.Loop() {
				w := httptest.NewRecorder()
				h.ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/v1/health/service/web?passing", nil))
				if w.Code != 200 {
					b.Fatal(w.Code)
				}
			}
		})
	}
}
