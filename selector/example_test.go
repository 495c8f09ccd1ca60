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

// A turn tells how fit the peer is, and what became of it is told back.
func ExampleSelector_Take() {
	s := selector.New(selector.Config[host]{ID: host.ID, Seed: "client-1", Policy: selector.LeastLoaded})
	s.Set([]host{{"anna", "10.0.0.1:80"}, {"bert", "10.0.0.2:80"}})

	var tried []string
	for range 3 {
		turn, err := s.Take(selector.Want{Exclude: tried})
		if err != nil {
			fmt.Println(err)
			break
		}
		turn.Done(errors.New("no answer"), 0)
		tried = append(tried, turn.Peer.Name)
		fmt.Println("tried a peer that is", turn.Tier)
	}
	// Output:
	// tried a peer that is live
	// tried a peer that is live
	// selector: no peer matches: 2 of 2 would, and all of them are excluded
}

// A key finds its peer from everywhere.
func ExampleSelector_NextFor() {
	for _, client := range []string{"client-1", "client-2"} {
		s := selector.New(selector.Config[string]{ID: func(s string) string { return s }, Seed: client, Policy: selector.ByKey})
		s.Set([]string{"a", "b", "c", "d"})
		first, _ := s.NextFor("user-42")
		s.Set([]string{"d", "c", "b"})
		then, _ := s.NextFor("user-42")
		fmt.Println(first, then)
	}
	// Output:
	// b b
	// b b
}

func ExampleSelector_Where() {
	type peer struct{ name, version string }
	s := selector.New(selector.Config[peer]{ID: func(p peer) string { return p.name }, Seed: "client-1"})
	s.Set([]peer{{"a", "1.0"}, {"b", "2.0"}, {"c", "2.0"}})
	v2 := s.Where("version=2.0", func(p peer) bool { return p.version == "2.0" })
	for range 3 {
		p, _ := v2.Next()
		fmt.Println(p.name)
	}
	_, err := s.Where("version=3.0", func(p peer) bool { return p.version == "3.0" }).Next()
	fmt.Println(errors.Is(err, selector.ErrNoMatch), err)
	// Output:
	// b
	// c
	// b
	// true selector: no peer matches: none of 3
}

func ExampleSelector_Explain() {
	s := selector.New(selector.Config[string]{
		ID:       func(s string) string { return s },
		Seed:     "client-1",
		Self:     "a",
		SelfRule: selector.SelfLast,
	})
	s.Set([]string{"a", "b", "c"})
	for _, st := range s.Explain(selector.Want{Exclude: []string{"c"}}) {
		fmt.Printf("%s %v: %s\n", st.ID, st.Tier, st.Why)
	}
	// Output:
	// b live: takes turns
	// a last_resort: is this client itself, the last resort
	// c live: excluded by the caller
}
