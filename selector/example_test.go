package selector_test

import (
	"errors"
	"fmt"

	"github.com/peerhq/peer/selector"
)

type host struct{ Name, Addr string }

func (h host) ID() string { return h.Name }

func Example() {
	s := selector.New(selector.Config[host]{ID: host.ID, Seed: "client-1"})
	s.Set([]host{
		{"anna", "10.0.0.1:80"},
		{"bert", "10.0.0.2:80"},
		{"carl", "10.0.0.3:80"},
	})
	for range 4 {
		h, err := s.Next()
		if err != nil {
			fmt.Println(err)
			return
		}
		fmt.Println(h.Name, h.Addr)
	}
	// Output:
	// carl 10.0.0.3:80
	// anna 10.0.0.1:80
	// bert 10.0.0.2:80
	// carl 10.0.0.3:80
}

// Ask the next peer when one does not answer, and nobody twice.
func ExampleSelector_All() {
	s := selector.New(selector.Config[host]{ID: host.ID, Seed: "client-1"})
	s.Set([]host{{"anna", "10.0.0.1:80"}, {"bert", "10.0.0.2:80"}, {"carl", "10.0.0.3:80"}})

	ask := func(h host) error {
		if h.Name == "bert" {
			return nil
		}
		return errors.New("no answer")
	}
	for h := range s.All() {
		if err := ask(h); err != nil {
			fmt.Printf("%s: %v\n", h.Name, err)
			continue
		}
		fmt.Printf("%s: ok\n", h.Name)
		break
	}
	// Output:
	// carl: no answer
	// anna: no answer
	// bert: ok
}

// The rotation goes on where it was.
func ExampleSelector_Set() {
	s := selector.New(selector.Config[string]{ID: func(s string) string { return s }, Seed: "client-1"})
	turns := func(n int) {
		var got []string
		for range n {
			p, _ := s.Next()
			got = append(got, p)
		}
		fmt.Println(got)
	}
	s.Set([]string{"a", "b", "c", "d"})
	turns(6)
	s.Set([]string{"d", "c", "b"}) // a has left
	turns(6)
	// Output:
	// [b d a c b d]
	// [c b d c b d]
}

func ExampleSelector_Next() {
	s := selector.New(selector.Config[string]{ID: func(s string) string { return s }})
	_, err := s.Next()
	fmt.Println(errors.Is(err, selector.ErrNoPeers))
	// Output: true
}
