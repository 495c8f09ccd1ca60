package httpapi_test

import (
	"context"
	"fmt"
	"net"
	"os/exec"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/chromedp/cdproto/audits"
	"github.com/chromedp/cdproto/cdp"
	"github.com/chromedp/cdproto/emulation"
	cdplog "github.com/chromedp/cdproto/log"
	"github.com/chromedp/cdproto/page"
	"github.com/chromedp/cdproto/runtime"
	"github.com/chromedp/chromedp"

	"github.com/peerhq/peer/agent/api"
	"github.com/peerhq/peer/agent/httpapi"
	"github.com/peerhq/peer/testcluster"
)

// browser starts a headless Chromium, or skips where there is none.
func browser(t *testing.T) context.Context {
	t.Helper()
	path := ""
	for _, name := range []string{"chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome"} {
		if p, err := exec.LookPath(name); err == nil {
			path = p
			break
		}
	}
	if path == "" {
		testcluster.Unavailable(t, "browser", "no chromium on the PATH: the status page is not tested in a browser")
	}
	opts := append(chromedp.DefaultExecAllocatorOptions[:],
		chromedp.ExecPath(path), chromedp.NoSandbox, chromedp.DisableGPU, chromedp.WindowSize(1280, 900),
		chromedp.Flag("disable-quic", true), chromedp.Flag("disable-component-update", true),
		chromedp.WSURLReadTimeout(time.Minute))
	ctx, cancel := chromedp.NewExecAllocator(t.Context(), opts...)
	t.Cleanup(cancel)
	ctx, cancel = chromedp.NewContext(ctx)
	t.Cleanup(cancel)
	if err := chromedp.Do(ctx); err != nil {
		t.Fatalf("start %s: %v", path, err)
	}
	return ctx
}

// tab opens a tab in which every complaint of the browser is an error of the
// test: an exception, a line on the console, a breach of the content policy.
func tab(t *testing.T, browser context.Context) (context.Context, *complaints) {
	t.Helper()
	ctx, cancel := chromedp.NewContext(browser)
	t.Cleanup(cancel)
	c := new(complaints)
	run(t, ctx, chromedp.Func(func(_ context.Context, target *chromedp.Target) error {
		listen(t, ctx, target, runtime.ExceptionThrown, func(e runtime.EventExceptionThrown) {
			c.add("exception: " + e.ExceptionDetails.Text)
		})
		listen(t, ctx, target, runtime.ConsoleAPICalled, func(e runtime.EventConsoleAPICalled) {
			c.add("console: " + e.Type.String())
		})
		listen(t, ctx, target, cdplog.EntryAdded, func(e cdplog.EventEntryAdded) {
			c.add(fmt.Sprintf("log: %s %s %s", e.Entry.Source, e.Entry.Text, e.Entry.URL))
		})
		listen(t, ctx, target, audits.IssueAdded, func(e audits.EventIssueAdded) {
			c.add("issue: " + string(e.Issue.Code))
		})
		return nil
	}), call(runtime.Enable, cdp.Empty{}), call(cdplog.Enable, cdp.Empty{}), call(audits.Enable, cdp.Empty{}))
	return ctx, c
}

// listen hears events of a tab until ctx, or the test, is done.
func listen[E any](t *testing.T, ctx context.Context, target *chromedp.Target, ev cdp.Event[E], hear func(E)) {
	ctx, cancel := context.WithCancel(ctx)
	events := cdp.Events(ctx, target, ev)
	var wg sync.WaitGroup
	wg.Go(func() {
		for e, err := range events {
			if err != nil {
				return // ctx is done
			}
			hear(e)
		}
	})
	t.Cleanup(func() { cancel(); wg.Wait() })
}

func call[P, R any](c cdp.Command[P, R], params P) chromedp.Action[chromedp.Void] {
	return chromedp.Func(func(ctx context.Context, target *chromedp.Target) error {
		_, err := cdp.Call(ctx, target, c, params)
		return err
	})
}

// withoutScripts is what a browser does whose owner has turned them off.
func withoutScripts() chromedp.Action[chromedp.Void] {
	return call(emulation.SetScriptExecutionDisabled, emulation.SetScriptExecutionDisabledParams{Value: true})
}

// withoutPolls leaves a page its events: it does not ask by itself any more.
func withoutPolls() chromedp.Action[chromedp.Void] {
	return call(page.AddScriptToEvaluateOnNewDocument, page.AddScriptToEvaluateOnNewDocumentParams{
		Source: `const real = setTimeout; window.setTimeout = (f, ms) => ms < 2000 ? real(f, ms) : 0`,
	})
}

type complaints struct {
	mu   sync.Mutex
	list []string
}

func (c *complaints) add(said string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.list = append(c.list, said)
}

func (c *complaints) none(t *testing.T) {
	t.Helper()
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, said := range c.list {
		t.Errorf("the browser complains: %s", said)
	}
}

// patience bounds one step in the browser.
const patience = 30 * time.Second

func run(t *testing.T, ctx context.Context, actions ...chromedp.Action[chromedp.Void]) {
	t.Helper()
	for _, a := range actions {
		if err := do(ctx, a); err != nil {
			t.Fatalf("browser: %v", err)
		}
	}
}

func do(ctx context.Context, a chromedp.Action[chromedp.Void]) error {
	if err := chromedp.Do(ctx); err != nil { // opens the tab: without a time limit, which would be the tab's
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	return chromedp.Do(ctx, a)
}

// eval returns what a script gives.
func eval[T any](t *testing.T, ctx context.Context, script string) T {
	t.Helper()
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	v, err := chromedp.Run(ctx, chromedp.Evaluate[T](script))
	if err != nil {
		t.Fatalf("browser: %v; script: %s", err, script)
	}
	return v
}

// until waits for a script to give true.
func until(t *testing.T, ctx context.Context, what, script string) {
	t.Helper()
	for end := time.Now().Add(patience); !eval[bool](t, ctx, "Boolean("+script+")"); time.Sleep(20 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("%s: not so; the page says:\n%s", what, eval[string](t, ctx, "document.body.innerText"))
		}
	}
}

// serveReal serves a on a loopback port.
func serveReal(t *testing.T, a httpapi.Agent) (*httpapi.Server, string) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s, err := httpapi.Start(httpapi.Config{TCP: l, Addr: l.Addr().String(), Version: "1.0.0"}, a)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		defer cancel()
		if err := s.Close(ctx); err != nil {
			t.Errorf("close: %v", err)
		}
	})
	return s, "http://" + l.Addr().String() + "/"
}

// drawn is what the page shows, in a form that does not depend on whether the
// server or the script drew it.
const drawn = `[...document.querySelectorAll("title, .top, main *")]
  .filter((e) => !e.closest("button, input, .pulse, noscript, thead, template"))
  .map((e) => e.localName + " "
    + [...e.attributes].map((a) => a.name + "=" + a.value).sort().join(" ") + ": "
    + [...e.childNodes].filter((n) => n.nodeType === 3).map((n) => n.data.trim()).join(" ").trim())
  .join("\n")`

const rowState = `document.querySelector('#members-table [title="b"]')?.closest("tr").dataset.state`

func TestPageInABrowser(t *testing.T) {
	b := browser(t)

	t.Run("without scripts", func(t *testing.T) {
		_, url := serveReal(t, newFakeAgent())
		ctx, c := tab(t, b)
		run(t, ctx, withoutScripts(), chromedp.Navigate(url))
		rows := eval[[]string](t, ctx, `[...document.querySelectorAll("#members-table tbody tr")].map((r) => r.innerText)`)
		if len(rows) != 3 || !strings.Contains(rows[1], "b") || !strings.Contains(rows[1], "alive") || !strings.Contains(rows[1], "zone=zb") {
			t.Errorf("members: %q", rows)
		}
		if refresh := eval[bool](t, ctx, `document.querySelector('meta[http-equiv="refresh"]') !== null`); !refresh {
			t.Error("without scripts the page does not refresh itself")
		}
		if tools := eval[int](t, ctx, `document.querySelectorAll("input:not([hidden]), button:not([hidden])").length`); tools != 0 {
			t.Errorf("%d tools are shown that need a script", tools)
		}
		c.none(t)
	})

	t.Run("an event changes the table without a reload", func(t *testing.T) {
		a := newFakeAgent()
		_, url := serveReal(t, a)
		ctx, c := tab(t, b)
		run(t, ctx, withoutPolls(), chromedp.Navigate(url))
		// The stream asks for it once, as it opens.
		until(t, ctx, "a first view", `performance.getEntriesByType("resource").some((e) => e.name.endsWith("/page.json"))`)
		run(t, ctx, chromedp.Evaluate[chromedp.Void](`window.here = true; document.querySelector('#members-table [title="b"]').focus()`))
		a.setState("b", "failed")
		a.emit("failed", "b failed: crashed")
		until(t, ctx, "b failed", rowState+` === "failed"`)
		until(t, ctx, "the feed", `document.querySelector("#events li").innerText.includes("b failed: crashed")`)
		if !eval[bool](t, ctx, "window.here === true") {
			t.Error("the page was loaded anew")
		}
		if first := eval[string](t, ctx, `document.querySelector("#members-table tbody tr .name a").textContent`); first != "b" {
			t.Errorf("%q is first, want the failed one", first)
		}
		if focused := eval[string](t, ctx, `document.activeElement.title`); focused != "b" {
			t.Errorf("the focus went to %q", focused)
		}
		a.change(func(a *fakeAgent) { a.members.Members = a.members.Members[:1] })
		a.emit("forgotten", "b and c are forgotten")
		until(t, ctx, "rows gone", `document.querySelectorAll("#members-table tbody tr").length === 1`)
		c.none(t)
	})

	t.Run("locks of other hosts change without an event", func(t *testing.T) {
		a := newFakeAgent()
		_, url := serveReal(t, a)
		ctx, c := tab(t, b)
		run(t, ctx, chromedp.Navigate(url))
		until(t, ctx, "live", `document.querySelector("#pulse").hasAttribute("data-live")`)
		const rows = `[...document.querySelectorAll("section[aria-labelledby=h-locks] tbody tr")].map((r) => r.innerText).join("|")`
		since := a.status.AsOf.Add(-65 * time.Second)
		lock := api.Lock{
			Name: "deploy", Fence: 17, TTLMS: 15000, ExpiresInMS: 9000, Holder: &api.LockHolder{Node: "b", PID: 42, Command: "make", Since: &since},
			Waiters: []api.LockWaiter{{Node: "c", PID: 43, Position: 1}, {Node: "a", PID: 44, Position: 2}},
		}
		a.change(func(a *fakeAgent) { a.locks.Locks = []api.Lock{lock} })
		until(t, ctx, "the lock", rows+`.includes("deploy")`)
		row := eval[string](t, ctx, rows)
		at := -1
		for _, want := range []string{"deploy", "b", "make, pid 42, for 1 min 5 s", "17", "of 15 s", "c 43", "a 44"} {
			i := strings.Index(row, want)
			if i < at {
				t.Errorf("the row does not say %q in its place: %q", want, row)
			}
			at = i
		}
		a.change(func(a *fakeAgent) {
			l := lock
			l.Holder, l.Fence, l.Waiters = &api.LockHolder{Node: "c", PID: 43}, 18, lock.Waiters[1:]
			a.locks.Locks = []api.Lock{l}
		})
		until(t, ctx, "the next holder", rows+`.includes("18")`)
		a.change(func(a *fakeAgent) { a.locks.Locks = nil })
		until(t, ctx, "no lock", rows+` === ""`)
		c.none(t)
	})

	t.Run("script and server draw the same", func(t *testing.T) {
		a := busyAgent()
		_, url := serveReal(t, a)
		plain, _ := tab(t, b)
		live, c := tab(t, b)
		run(t, live, chromedp.Navigate(url))
		until(t, live, "live", `document.querySelector("#pulse").hasAttribute("data-live")`)
		for _, step := range []func(*fakeAgent){
			func(*fakeAgent) {},
			func(a *fakeAgent) { // everything else
				a.members.Members = slices.Concat(a.members.Members[1:2], []api.Member{{Name: "new", State: "left", Cause: "left", Tags: map[string]string{"x": "y"}}})
				a.locks.Locks = nil
				a.status.Verdict = api.Verdict{Text: "1 of 2 peers alive", Reasons: []string{"one", "two"}}
				a.status.Warnings = []api.Warning{{Code: "w", Text: "a warning"}}
				a.status.Checks = nil
				a.status.Cluster.Seeds = nil
				a.status.Cluster.Label = ""
				a.status.Node.Mode = "dev"
			},
			func(a *fakeAgent) { // and back
				b, seq := busyAgent(), a.status.Events.Seq
				a.status, a.members.Members, a.locks = b.status, b.members.Members, b.locks
				a.status.Events.Seq = seq
			},
		} {
			a.change(step)
			a.emit("updated", "a step")
			run(t, plain, withoutScripts(), chromedp.Navigate(url))
			want := eval[string](t, plain, drawn)
			until(t, live, "the same page", drawn+" === "+fmt.Sprintf("%q", want))
		}
		c.none(t)
	})

	t.Run("hostile names are inert", func(t *testing.T) {
		a := newFakeAgent()
		const evil = `"><img src=x onerror="window.pwned=1"><script>window.pwned=1</script>'{{.}}` + "\u202e\x00\n"
		for i := range a.members.Members {
			m := &a.members.Members[i]
			m.Name, m.Version, m.Addr, m.Cause = evil+m.Name, evil, "javascript:window.pwned=1", evil
			m.Tags = map[string]string{evil: evil}
			m.Services = []api.Service{{Name: evil, Health: evil}}
		}
		a.locks.Locks = []api.Lock{{Name: evil, Holder: &api.LockHolder{Node: evil, Command: evil}, Waiters: []api.LockWaiter{{Node: evil}}}}
		a.status.Warnings = []api.Warning{{Code: evil, Text: evil, Fix: evil}}
		a.status.Verdict = api.Verdict{Text: evil, Reasons: []string{evil}}
		a.status.Cluster.Label, a.status.Node.Name = evil, evil
		a.status.Cluster.Seeds = []api.StatusSeed{{Addr: evil, LastError: evil}}
		a.status.Checks = []api.Check{{Name: evil, Status: evil, Text: evil}}
		_, url := serveReal(t, a)
		ctx, c := tab(t, b)
		run(t, ctx, chromedp.Navigate(url))
		for range 3 {
			a.emit(evil, evil)
			a.emit("updated", evil)
		}
		until(t, ctx, "the events", `document.querySelectorAll("#events li").length === 6`)
		if eval[bool](t, ctx, "window.pwned !== undefined") {
			t.Error("a name ran as a script")
		}
		if n := eval[int](t, ctx, `document.querySelectorAll("img, body script, iframe").length`); n != 0 {
			t.Errorf("names became %d elements", n)
		}
		if n := eval[int](t, ctx, `[...document.links].filter((a) => a.origin !== location.origin).length`); n != 0 {
			t.Errorf("%d links lead elsewhere", n)
		}
		if !eval[bool](t, ctx, `document.querySelector("#members-table .name").innerText.includes('<img src=x')`) {
			t.Error("the name is not shown as it is")
		}
		c.none(t)
	})

	t.Run("filter and order", func(t *testing.T) {
		_, url := serveReal(t, newFakeAgent())
		ctx, c := tab(t, b)
		shown := `[...document.querySelectorAll("#members-table tbody tr:not([hidden]) .name a")].map((a) => a.textContent).join(" ")`
		run(t, ctx, chromedp.Navigate(url), chromedp.SendKeys(chromedp.CSS("#filter"), "zone=zb"))
		until(t, ctx, "filtered", shown+` === "b"`)
		until(t, ctx, "counted", `document.querySelector("#members-note").textContent === "1 of 3"`)
		run(t, ctx, chromedp.SendKeys(chromedp.CSS("#filter"), "!"))
		until(t, ctx, "nobody", shown+` === "" && !document.querySelector("#no-match").hidden`)
		run(t, ctx, chromedp.Evaluate[chromedp.Void](`const f = document.querySelector("#filter"); f.value = ""; f.dispatchEvent(new Event("input"))`))
		until(t, ctx, "all", shown+` === "a b c"`)
		click := chromedp.Click(chromedp.CSS(`#members-table th[data-sort="name"] button`))
		run(t, ctx, click, click)
		until(t, ctx, "descending", shown+` === "c b a" && document.querySelector('th[data-sort="name"]').getAttribute("aria-sort") === "descending"`)
		run(t, ctx, click)
		until(t, ctx, "the agent's order", shown+` === "a b c" && document.querySelector("[aria-sort]") === null`)
		c.none(t)
	})

	t.Run("old figures say so", func(t *testing.T) {
		s, url := serveReal(t, newFakeAgent())
		ctx, _ := tab(t, b) // which complains about the refused connections
		run(t, ctx, chromedp.Navigate(url))
		until(t, ctx, "live", `document.querySelector("#pulse").hasAttribute("data-live")`)
		stop, cancel := context.WithTimeout(t.Context(), 5*time.Second)
		defer cancel()
		if err := s.Close(stop); err != nil {
			t.Errorf("close: %v", err)
		}
		until(t, ctx, "stale", `!document.querySelector("#stale").hidden && /What follows is \d+ s old/.test(document.querySelector("#stale").textContent)`)
		if live := eval[bool](t, ctx, `document.querySelector("#pulse").hasAttribute("data-live")`); live {
			t.Error("the page still says live")
		}
		if !eval[bool](t, ctx, `getComputedStyle(document.querySelector(".verdict .mark")).color === getComputedStyle(document.querySelector("#members-table .mark")).color`) {
			t.Error("the verdict keeps its colour on old figures")
		}
	})
}

// busyAgent has something of everything, at a fixed time. Its lease has run out:
// what is left of one depends on when the page is drawn.
func busyAgent() *fakeAgent {
	a := newFakeAgent()
	at := a.status.AsOf.Add(-90 * time.Second)
	rtt, lat := 0.42, 1.5
	a.members.Members[1].State, a.members.Members[1].Cause, a.members.Members[1].Eligible = "suspect", "overdue", false
	a.members.Members[1].HeartbeatAgeMS = 2100
	a.members.Members[2].RTTMS, a.members.Members[2].Version = &rtt, "2.0.0"
	a.members.Members[2].Services = []api.Service{{Name: "web", Port: 80, Health: "critical"}}
	a.locks.Locks = []api.Lock{
		{Name: "deploy", Fence: 7, TTLMS: 15000, Holder: &api.LockHolder{Node: "b", PID: 4, Command: "make", Since: &at}, Waiters: []api.LockWaiter{{Node: "a", PID: 1, Position: 1}, {Node: "c", Position: 2}}},
		{Name: "free", Fence: 9},
	}
	a.status.Cluster.Label = "prod"
	a.status.Cluster.HealthScore = 1
	a.status.Cluster.Seeds = []api.StatusSeed{{Addr: "s1:7946", LastOKAt: &at}, {Addr: "s2:7946", LastError: "refused"}}
	a.status.Checks = []api.Check{{Name: "gossip", Status: "pass", Text: "listens"}, {Name: "redis", Status: "warn", Text: "slow"}}
	a.status.Locks.Backend.LatencyMS = &lat
	a.status.Node.StartedAt = at
	return a
}
