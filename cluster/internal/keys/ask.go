package keys

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"
)

// A command is a question to each member, over a stream of its own, and an
// answer from each, over another.

const (
	resendAfter = 700 * time.Millisecond
	sendsAtOnce = 32
)

// question is a command that waits for answers. Keyring.mu guards it.
type question struct {
	answers map[uint64]*answer // by the instance that was asked; nil until it answers
	news    chan struct{}
}

// ask sends cmd, signed and encrypted with by, to each of targets, once more if
// need be, and gathers the answers.
func (r *Keyring) ask(ctx context.Context, cmd command, by *Key, targets []Member) []Outcome {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	defer context.AfterFunc(r.life, cancel)()
	q := &question{answers: map[uint64]*answer{}, news: make(chan struct{}, 1)}
	for _, m := range targets {
		q.answers[m.Instance] = nil
	}
	cmd.id = r.newQuestion(q)
	defer r.endQuestion(cmd.id)
	frame := r.signFrame(by, cmd.encode())

	faults := map[uint64]error{}
	for rest := targets; len(rest) > 0 && ctx.Err() == nil; rest = r.missing(q, targets) {
		r.sendAll(ctx, rest, frame, by, faults)
		for again := time.After(resendAfter); len(r.missing(q, targets)) > 0; {
			select {
			case <-q.news:
				continue
			case <-again:
			case <-ctx.Done():
			}
			break
		}
		if r.ending() {
			break
		}
	}

	r.mu.Lock()
	defer r.mu.Unlock()
	var out []Outcome
	for _, m := range targets {
		o := Outcome{Name: m.Name, Addr: m.Addr}
		switch a := q.answers[m.Instance]; {
		case a != nil && a.failed:
			o.Keys, o.Err = a.fingerprints, &refusal{a.text}
		case a != nil:
			o.Keys, o.Note = a.fingerprints, a.text
		case faults[m.Instance] != nil:
			o.Err = fmt.Errorf("not reached: %w", faults[m.Instance])
		default:
			o.Err = errors.New("no answer: it gets the key as soon as it is heard from")
		}
		out = append(out, o)
	}
	return out
}

// sendAll sends frame to each of targets and notes in faults how that went.
func (r *Keyring) sendAll(ctx context.Context, targets []Member, frame []byte, by *Key, faults map[uint64]error) {
	var mu sync.Mutex // guards faults
	var wg sync.WaitGroup
	defer wg.Wait()
	slots := make(chan struct{}, sendsAtOnce)
	for _, m := range targets {
		slots <- struct{}{}
		wg.Go(func() {
			defer func() { <-slots }()
			err := r.cfg.Members.Send(ctx, m, frame, by)
			mu.Lock()
			defer mu.Unlock()
			faults[m.Instance] = err
		})
	}
}

// missing returns those of targets that have not answered.
func (r *Keyring) missing(q *question, targets []Member) (out []Member) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, m := range targets {
		if q.answers[m.Instance] == nil {
			out = append(out, m)
		}
	}
	return out
}

func (r *Keyring) newQuestion(q *question) uint64 {
	id := r.random() | 1
	r.mu.Lock()
	defer r.mu.Unlock()
	for r.asked[id] != nil {
		id += 2
	}
	r.asked[id] = q
	return id
}

func (r *Keyring) endQuestion(id uint64) {
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.asked, id)
}

// takeCommand takes in a command that came over gossip.
func (r *Keyring) takeCommand(b []byte) error {
	body, by, err := r.verifyFrame(b)
	if err != nil {
		return err
	}
	cmd, err := parseCommand(body)
	if err != nil {
		return err
	}
	if by.Old() {
		// What was done before may be asked again, if the answer was lost.
		if cmd.epoch != r.set.Load().epoch {
			return errOldKey
		}
		cmd.op = opList
	}
	from, ok := r.cfg.Members.Instance(cmd.from)
	if !ok {
		return nil
	}
	r.spawn(func() { r.answer(from, cmd, by.Key) })
	return nil
}

// answer obeys cmd and tells its sender, in the key that it used, what came of
// it.
func (r *Keyring) answer(to Member, cmd command, by *Key) {
	a := answer{id: cmd.id, from: r.cfg.Members.Self().Instance}
	note, err := r.obey(cmd)
	if a.text = note; err != nil {
		a.failed, a.text = true, err.Error()
	}
	a.fingerprints = r.set.Load().fingerprints()
	if cmd.id == 0 {
		return
	}
	if err := r.cfg.Members.Send(r.life, to, r.signFrame(by, a.encode()), by); err != nil {
		r.cfg.Logger.Debug("answer about keys", "member", to.Name, "addr", to.Addr.String(), "err", err)
	}
}

// takeAnswer takes in an answer of a member that was asked.
func (r *Keyring) takeAnswer(b []byte) error {
	body, _, err := r.verifyFrame(b) // in the key of the question, which may just have become old
	if err != nil {
		return err
	}
	a, err := parseAnswer(body)
	if err != nil {
		return err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	q := r.asked[a.id]
	if q == nil {
		return nil
	}
	if _, ok := q.answers[a.from]; !ok {
		return nil
	}
	q.answers[a.from] = &a
	select {
	case q.news <- struct{}{}:
	default:
	}
	return nil
}
