package web_test

import (
	"encoding/json"
	"fmt"
	"io"
	"testing"

	"github.com/peerhq/peer/agent/api"
	"github.com/peerhq/peer/agent/web"
)

func large(n int) web.Snapshot {
	s := snapshot("x")
	s.Members.Members = nil
	for i := range n {
		ms := float64(i) / 10
		s.Members.Members = append(s.Members.Members, api.Member{
			Name: fmt.Sprintf("host-%04d.example.com", i), Instance: fmt.Sprintf("%016x", i), Addr: "10.0.0.1:7946",
			State: "alive", Eligible: true, Since: asOf, Version: "1.0.0", RTTMS: &ms,
			Tags: map[string]string{"zone": "a", "role": "web", "rack": "17"},
		})
	}
	return s
}

func BenchmarkRender(b *testing.B) {
	for _, n := range []int{10, 1000} {
		b.Run(fmt.Sprintf("members=%d", n), func(b *testing.B) {
			p, err := web.New()
			if err != nil {
				b.Fatal(err)
			}
			s := large(n)
			b.ReportAllocs()
			for b.Loop() {
				if err := p.Render(io.Discard, web.NewView(s)); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

func BenchmarkJSON(b *testing.B) {
	for _, n := range []int{10, 1000} {
		b.Run(fmt.Sprintf("members=%d", n), func(b *testing.B) {
			s := large(n)
			b.ReportAllocs()
			size := 0
			for b.Loop() {
				raw, err := json.Marshal(web.NewView(s))
				if err != nil {
					b.Fatal(err)
				}
				size = len(raw)
			}
			b.ReportMetric(float64(size), "bytes")
		})
	}
}
