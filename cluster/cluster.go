package cluster

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/hashicorp/memberlist"

	"github.com/peerhq/peer/cluster/internal/address"
	"github.com/peerhq/peer/cluster/internal/core"
	"github.com/peerhq/peer/cluster/internal/datadir"
	"github.com/peerhq/peer/cluster/internal/keys"
	"github.com/peerhq/peer/cluster/internal/port"
	"github.com/peerhq/peer/cluster/internal/watch"
)

var (
	// ErrUnknown is returned for a name that no member has.
	ErrUnknown = errors.New("no such member")
	// ErrLiving is returned for a member that is alive or suspect: only the
	// departed are forgotten.
	ErrLiving = errors.New("member is not gone")
)

// Cluster is this peer's membership: a running thing, made by Start. All
// methods may be called from any goroutine.
//
// Its goroutines: the owner of the core, the dispatcher of events, the sender, the
// follower of seeds, the saver, one for each table exchange and each record that
// is sent, and those of the port, the keyring, the watch streams and the log. Close
// ends and awaits them. memberlist's own probes may outlive it by seconds; they
// touch nothing of ours.
type Cluster struct {
	cfg     Config
	logger  hclog.Logger
	lines   *logQueue
	started time.Time
	session atomic.Pointer[session]

	port       *port.Port
	keys       *keys.Keyring
	dir        *datadir.Dir
	broadcasts *memberlist.TransmitLimitedQueue
	out        *outbox
	seeds      *seedList
	chooser    address.Chooser
	nodes      nodes

	inputs     chan input
	view       atomic.Pointer[View]
	ack        atomic.Pointer[ack]
	joined     atomic.Bool   // a table was exchanged with another peer
	acked      atomic.Int64  // the last answer to a ping by UDP, since started
	closing    chan struct{} // closed by Close
	ownerEnded chan struct{} // closed when the owner of the core has ended
	leaving    chan struct{} // closed by Leave
	answers    chan struct{} // slots for records being sent
	unsaved    chan struct{} // the View has changed since it was written to the data dir

	lastWords atomic.Pointer[datadir.Contents] // what is saved at the end

	stalls, stalledFor, lastStall atomic.Int64

	// Of the owner's goroutine alone.
	core      *core.Core
	pace      pace
	table     map[Instance]Member
	pulses    map[core.ID]*pulse
	index     uint64
	pending   []Event
	shown     []Member // of the last View, sorted; not to be changed
	changed   []key    // the members that the View has wrong
	silent    bool     // and no event tells of it
	published time.Duration
	publishAt <-chan time.Time
	linksRead []watch.Link
	links     []core.Link

	wg        sync.WaitGroup
	exchanges atomic.Int32 // that are under way

	moving sync.Mutex // held while the session changes, and when it ends

	mu         sync.Mutex
	cond       *sync.Cond // the queue or the View changed, or closed is set
	queue      []Event
	warnings   []Warning
	refusals   map[string]string // by name, what was told of an address
	contacting map[netip.AddrPort]struct{}
	saveErr    error // of the last write to the data dir
	closed     bool
	left       bool
}

// Start makes this host a member: it binds the gossip port, then runs. It
// fails on a mistake in cfg and on a port that cannot be had, with
// nothing left running. A seed that does not answer is no failure: the peer
// is up, alone, and keeps trying.
func Start(cfg Config) (*Cluster, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	cfg = cfg.withDefaults()
	body, err := encodeRecord(record{Tags: cfg.Tags, Services: cfg.Services})
	if err != nil {
		return nil, err
	}
	if err := errors.Join(validateTags(cfg.Tags), validateServices(cfg.Services)); err != nil {
		return nil, err
	}
	var seeds []address.Seed
	for _, s := range cfg.Seeds {
		p, err := address.ParseSeed(s, DefaultPort)
		if err != nil {
			return nil, err
		}
		seeds = append(seeds, p)
	}
	dir, err := datadir.Open(cfg.FS, cfg.DataDir)
	if err != nil {
		return nil, err
	}
	remembered, warning := dir.Load()
	inst, err := newInstance(cfg.Now(), Instance(remembered.Self), cfg.Rand)
	if err != nil {
		return nil, err
	}
	c := &Cluster{
		cfg: cfg, started: time.Now(), dir: dir,
		inputs: make(chan input, inputQueue), closing: make(chan struct{}), ownerEnded: make(chan struct{}), leaving: make(chan struct{}),
		answers: make(chan struct{}, 16), unsaved: make(chan struct{}, 1), seeds: newSeedList(seeds),
		nodes: nodes{in: map[Instance]struct{}{}}, table: map[Instance]Member{}, pulses: map[core.ID]*pulse{},
		refusals: map[string]string{}, contacting: map[netip.AddrPort]struct{}{},
		index: uint64(inst.Started().UnixMilli()),
	}
	c.cond = sync.NewCond(&c.mu)
	c.lines = newLogQueue()
	c.logger = c.lines.logger(cfg.Logger)
	c.broadcasts = &memberlist.TransmitLimitedQueue{
		RetransmitMult: memberlist.DefaultLANConfig().RetransmitMult,
		NumNodes:       func() int { return len(c.View().Members) },
	}
	c.out = newOutbox(c.broadcasts)
	if warning != "" {
		c.warn("data_dir", warning, "mend "+cfg.DataDir+" or name another --data-dir")
	}
	if err := c.open(inst, remembered, body); err != nil {
		c.lines.close()
		return nil, err
	}
	return c, nil
}

// open binds the port, makes the core and starts what runs.
func (c *Cluster) open(inst Instance, remembered datadir.Contents, body []byte) error {
	bind, err := address.ParseBind(c.cfg.Bind)
	if err != nil {
		return err
	}
	c.keys, err = c.newKeyring()
	if err != nil {
		return err
	}
	c.port, err = port.Open(port.Config{
		Network: c.cfg.Network, Bind: bind, Label: c.cfg.Label, Keys: c.keys,
		MaxNodes: maxNodes, MaxFrame: maxRecord + 64,
		Watch: func(conn net.Conn) { c.session.Load().watch.Accept(conn) }, Stale: c.staleKey, Logger: c.logger.Named("memberlist"),
	})
	if err != nil {
		return err
	}
	if err := c.introduce(inst, bind.Addr()); err != nil {
		_ = c.port.Shutdown()
		return err
	}
	c.core = core.New(core.Config{
		Self: core.Rec{
			ID: core.ID(inst), Prev: core.ID(remembered.Self), Name: c.cfg.Name, Addr: c.advertised(), Version: c.cfg.Version,
			WireMin: wireMin, WireMax: wireMax,
		},
		Body: body, Data: record{Tags: c.cfg.Tags, Services: c.cfg.Services}.clone(),
		ForgetAfter: c.cfg.ForgetAfter, Seed: uint64(inst),
	}, c.now())
	c.carryOut(c.core.First())
	c.carryOut(c.core.Step(c.now(), c.memories(remembered)))
	c.publish()
	if err := c.begin(inst, c.advertised()); err != nil {
		_ = c.port.Shutdown()
		return err
	}
	c.port.Serve()
	c.keys.Start()
	c.wg.Go(c.own)
	c.wg.Go(c.dispatch)
	c.wg.Go(func() {
		c.out.run(func(n *memberlist.Node, b []byte) error { return c.session.Load().ml.SendBestEffort(n, b) })
	})
	c.wg.Go(c.followSeeds)
	c.wg.Go(c.keep)
	c.wg.Go(c.followAddress)
	return nil
}

// introduce chooses the address at which others reach this peer.
func (c *Cluster) introduce(inst Instance, bind netip.Addr) error {
	host, number, err := address.SplitAdvertise(c.cfg.Advertise)
	if err != nil {
		return err
	}
	c.chooser = address.Chooser{Bind: bind, Advertise: host, Resolver: c.cfg.Resolver}
	choice, err := c.chooser.Choose(context.Background())
	if err != nil {
		return err
	}
	if number == 0 {
		number = c.port.Addr().Port()
	}
	addr := netip.AddrPortFrom(choice.Addr, number)
	c.session.Store(&session{instance: inst, addr: addr})
	if choice.Warning != "" {
		c.warn("advertise", choice.Warning, adviseAdvertise)
	}
	if len(c.cfg.Keys) == 0 && !addr.Addr().IsLoopback() {
		c.warn("gossip_unencrypted", "gossip is not encrypted: whoever reaches "+addr.String()+" can forge members", "make a key with `peer keygen` and give it with --encrypt-file")
	}
	return nil
}

// knows says whether a watch stream from an instance may be kept.
func (c *Cluster) knows(id uint64) (known bool) {
	c.ask(func(k *core.Core) {
		rec, ok := k.Lookup(core.ID(id))
		known = ok && rec.State < core.Failed
	})
	return known
}

// unwarn takes a warning of the start back.
func (c *Cluster) unwarn(code string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.warnings = slices.DeleteFunc(c.warnings, func(w Warning) bool { return w.Code == code })
}

func (c *Cluster) warn(code, text, fix string) {
	c.mu.Lock()
	c.warnings = append(c.warnings, Warning{Code: code, Text: text, Fix: fix})
	c.mu.Unlock()
	c.logger.Warn(text, "fix", fix)
}

// Changed returns when the View's Index is above index, or with ctx's error.
func (c *Cluster) Changed(ctx context.Context, index uint64) error {
	stop := context.AfterFunc(ctx, func() {
		c.mu.Lock()
		defer c.mu.Unlock()
		c.cond.Broadcast()
	})
	defer stop()
	c.mu.Lock()
	defer c.mu.Unlock()
	for c.View().Index <= index {
		if err := ctx.Err(); err != nil {
			return err
		}
		if c.closed {
			return errClosing
		}
		c.cond.Wait()
	}
	return nil
}

// Self returns this peer as others see it.
func (c *Cluster) Self() Member {
	for _, m := range c.View().Members {
		if m.Self {
			return m
		}
	}
	return Member{}
}

// SetTags replaces this peer's tags for everybody.
func (c *Cluster) SetTags(tags map[string]string) error {
	return c.announce(func(r *record) { r.Tags = tags })
}

// SetServices replaces this peer's services for everybody.
func (c *Cluster) SetServices(services []Service) error {
	return c.announce(func(r *record) { r.Services = services })
}

// announce changes this peer's own record and spreads it. It returns when its own
// View shows it, and does not wait for anybody else.
func (c *Cluster) announce(change func(*record)) (err error) {
	if !c.ask(func(k *core.Core) {
		i, _ := k.Shown(k.Self())
		r, _ := i.Data.(record)
		change(&r)
		r = r.clone()
		if err = errors.Join(validateTags(r.Tags), validateServices(r.Services)); err != nil {
			return
		}
		var body []byte
		if body, err = encodeRecord(r); err == nil {
			c.carryOut(k.Step(c.now(), core.SetRecord{Body: body, Data: r}))
			c.publish()
		}
	}) {
		return errClosing
	}
	return err
}

// Forget drops a member that is failed or left, here and on every other peer. If
// it lives after all it comes back by itself. It fails with ErrUnknown or
// ErrLiving.
func (c *Cluster) Forget(name string) (err error) {
	if !c.ask(func(k *core.Core) {
		switch known, gone := k.Departed(name); {
		case !known:
			err = ErrUnknown
		case !gone:
			err = ErrLiving
		default:
			c.carryOut(k.Step(c.now(), core.Forget{Name: name}))
			c.publish()
		}
	}) {
		return errClosing
	}
	return err
}

// Close ends everything at once, without a goodbye unless Leave was called
// before. It may be called more than once, but not from OnEvent.
func (c *Cluster) Close() error {
	if last, ok := c.memorize(); ok {
		c.lastWords.CompareAndSwap(nil, &last)
	}
	c.mu.Lock()
	first := !c.closed
	if first {
		c.closed = true
		close(c.closing)
		c.cond.Broadcast()
	}
	c.mu.Unlock()
	var err error
	if first {
		c.keys.Close()
		c.moving.Lock()
		err = c.end()
		c.moving.Unlock()
		c.out.close()
	}
	c.wg.Wait()
	c.lines.close()
	return err
}

// spawn runs f on a goroutine that Close waits for; false when it is too late.
func (c *Cluster) spawn(f func()) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.closed {
		c.wg.Go(f)
	}
	return !c.closed
}

func (c *Cluster) isLeaving() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.left || c.closed
}
