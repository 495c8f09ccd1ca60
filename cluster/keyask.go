package cluster

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"slices"
	"sync"
	"time"
)

// A command about keys is a question to each member, over a stream of its own, and
// an answer from each, over another.

// audience returns the others that are there, and the names of those that are
// known and are not.
func (c *Cluster) audience() (to []Member, absent []string) {
	lost, _ := c.lost()
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, r := range c.rows {
		switch {
		case r == c.self || r.ghost:
		case r.m.State == Alive || r.m.State == Suspect:
			to = append(to, r.m)
		case r.m.State == Failed:
			absent = append(absent, r.m.Name)
		}
	}
	for name, p := range lost {
		asked := slices.ContainsFunc(to, func(m Member) bool { return m.Name == name })
		if p.State != string(Left) && !asked {
			absent = append(absent, name)
		}
	}
	slices.Sort(absent)
	return to, slices.Compact(absent)
}

// ask sends cmd to each of to, once more if need be, and gathers the answers.
func (c *Cluster) ask(ctx context.Context, cmd keyCommand, by *sealer, to []Member) []KeyOutcome {
	q := &keyQuestion{answers: map[Instance]keyAnswer{}, news: make(chan struct{}, 1)}
	cmd.id = c.newQuestion(q)
	defer c.endQuestion(cmd.id)
	frame := c.signKeys(by, cmd.encode())

	var mu sync.Mutex
	faults := map[Instance]error{}
	send := func(to []Member) {
		var wg sync.WaitGroup
		slots := make(chan struct{}, keySends)
		for _, m := range to {
			slots <- struct{}{}
			wg.Go(func() {
				defer func() { <-slots }()
				err := c.sendSealed(ctx, m.Addr, frame, by)
				mu.Lock()
				defer mu.Unlock()
				faults[m.Instance] = err
			})
		}
		wg.Wait()
	}
	missing := func() (out []Member) {
		c.keyring.mu.Lock()
		defer c.keyring.mu.Unlock()
		for _, m := range to {
			if _, ok := q.answers[m.Instance]; !ok {
				out = append(out, m)
			}
		}
		return out
	}
	for rest := to; len(rest) > 0 && ctx.Err() == nil; rest = missing() {
		send(rest)
		for again := time.After(keyResend); len(missing()) > 0; {
			select {
			case <-q.news:
				continue
			case <-again:
			case <-ctx.Done():
			case <-c.closing:
			}
			break
		}
		if c.isLeaving() {
			break
		}
	}

	c.keyring.mu.Lock()
	defer c.keyring.mu.Unlock()
	mu.Lock()
	defer mu.Unlock()
	var out []KeyOutcome
	for _, m := range to {
		o := KeyOutcome{Name: m.Name, Addr: m.Addr}
		switch a, ok := q.answers[m.Instance]; {
		case ok && a.failed:
			o.Keys, o.Err = a.prints, &keyRefusal{a.text}
		case ok:
			o.Keys, o.Note = a.prints, a.text
		case faults[m.Instance] != nil:
			o.Err = fmt.Errorf("not reached: %w", explainDial(faults[m.Instance]))
		default:
			o.Err = errors.New("no answer: it gets the key as soon as it is heard from")
		}
		out = append(out, o)
	}
	return out
}

func (c *Cluster) newQuestion(q *keyQuestion) uint64 {
	c.keyring.mu.Lock()
	defer c.keyring.mu.Unlock()
	if c.keyring.asked == nil {
		c.keyring.asked = map[uint64]*keyQuestion{}
	}
	id := c.random() | 1
	for c.keyring.asked[id] != nil {
		id += 2
	}
	c.keyring.asked[id] = q
	return id
}

func (c *Cluster) random() uint64 {
	var b [8]byte
	_, _ = io.ReadFull(c.cfg.Rand, b[:])
	return binary.BigEndian.Uint64(b[:])
}

func (c *Cluster) endQuestion(id uint64) {
	c.keyring.mu.Lock()
	defer c.keyring.mu.Unlock()
	delete(c.keyring.asked, id)
}

// sendSealed sends one frame over a stream of its own, in a key of choice.
func (c *Cluster) sendSealed(ctx context.Context, addr netip.AddrPort, frame []byte, by *sealer) error {
	ctx, cancel := context.WithTimeout(ctx, maxDial)
	defer cancel()
	conn, err := c.cfg.Network.Dial(ctx, addr)
	if err != nil {
		return err
	}
	defer conn.Close() //nolint:errcheck // what counts is the answer
	_ = conn.SetDeadline(time.Now().Add(maxDial))
	head := append([]byte{msgLabel, byte(len(c.cfg.Label))}, c.cfg.Label...)
	_, err = conn.Write(append(head, by.sealStream(userMessage(frame), c.cfg.Label)...))
	return err
}

// userMessage is memberlist's message for a frame of ours.
func userMessage(frame []byte) []byte {
	b := append([]byte{msgUser, 0x81, 0xaa}, "UserMsgLen"...)
	b = binary.BigEndian.AppendUint32(append(b, 0xce), uint32(len(frame)))
	return append(b, frame...)
}

// takeKeys takes in a command that came over gossip.
func (c *Cluster) takeKeys(b []byte) error {
	body, by, err := c.verifyKeys(b)
	if err != nil {
		return err
	}
	cmd, err := parseKeyCommand(body)
	if err != nil {
		return err
	}
	if by.old() {
		// What was done before may be asked again, if the answer was lost.
		if cmd.epoch != c.keys.load().epoch {
			return errOldKey
		}
		cmd.op = opList
	}
	c.mu.Lock()
	r := c.rows[cmd.from]
	if r == nil || r == c.self || c.closed {
		c.mu.Unlock()
		return nil
	}
	addr := r.m.Addr
	c.spawn(func() {
		a := keyAnswer{id: cmd.id, from: c.self.m.Instance}
		note, err := c.obey(cmd)
		if a.text = note; err != nil {
			a.failed, a.text = true, err.Error()
		}
		set := c.keys.load()
		a.prints = set.prints()
		if cmd.id == 0 {
			return
		}
		if err := c.sendSealed(c.trans.life, addr, c.signKeys(by.sealer, a.encode()), by.sealer); err != nil {
			c.logger.Debug("answer about keys", "addr", addr.String(), "err", err)
		}
	})
	c.mu.Unlock()
	return nil
}

// takeKeysDone takes in an answer.
func (c *Cluster) takeKeysDone(b []byte) error {
	body, _, err := c.verifyKeys(b) // in the key of the question, which may just have become old
	if err != nil {
		return err
	}
	a, err := parseKeyAnswer(body)
	if err != nil {
		return err
	}
	c.keyring.mu.Lock()
	defer c.keyring.mu.Unlock()
	q := c.keyring.asked[a.id]
	if q == nil || len(q.answers) > maxMembers {
		return nil
	}
	q.answers[a.from] = a
	select {
	case q.news <- struct{}{}:
	default:
	}
	return nil
}
