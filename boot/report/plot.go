package report

import (
	"cmp"
	"fmt"
	"html"
	"io"
	"slices"
	"strings"
	"time"
)

// PlotWidth is the width of the timeline, in pixels; it is readable without
// being enlarged.
const PlotWidth = 1000

// Measures of the timeline, in pixels.
const (
	plotLeft   = 236 // names stand left of it
	plotRight  = PlotWidth - 18
	plotHead   = 20 // of a stage
	markerRoom = 34 // two lines of labels of vertical lines
)

// Plot draws the timeline as SVG: a row a unit, by stage; work solid, waiting
// hatched, with its reason; the critical path in red; lines where the boot was
// ready or settled and where another orchestrator took over. until (since the
// kernel's start) ends the axis; zero takes the end of the boot.
func (r *Report) Plot(w io.Writer, until time.Duration) error {
	p := newPlot(r, until)
	p.header()
	p.rows()
	p.verticals()
	p.critical()
	p.legend()
	if _, err := io.WriteString(w, p.svg()); err != nil {
		return fmt.Errorf("write timeline: %w", err)
	}
	return nil
}

type plot struct {
	r        *Report
	from, to time.Duration
	row      float64 // height of a row
	font     float64
	dense    bool
	y        float64 // next free line
	top      float64 // of the chart
	bottom   float64
	at       map[string]float64 // middle of each unit's row
	under    strings.Builder    // grid, drawn first
	b        strings.Builder
	over     strings.Builder // critical path, drawn last
	lastNote string
	provided map[string]bool
}

func newPlot(r *Report, until time.Duration) *plot {
	p := &plot{r: r, at: map[string]float64{}, provided: r.provided(), row: 21, font: 12}
	switch n := len(r.Units); {
	case n > 100:
		p.row, p.font, p.dense = 14, 10, true
	case n > 45:
		p.row, p.font, p.dense = 17, 11, true
	}
	p.to = until
	if p.to == 0 {
		p.to = max(r.Settled, r.Ready)
		if p.to == 0 {
			p.to = r.Now
		}
	}
	p.from = r.Origin
	for _, g := range r.Generations {
		if g.Started > 0 {
			p.from = min(p.from, g.Started)
		}
	}
	if p.to <= p.from {
		p.to = p.from + time.Second
	}
	p.to += (p.to - p.from) / 25
	return p
}

// x places a time; what is outside lies on the edge.
func (p *plot) x(t time.Duration) float64 {
	t = min(max(t, p.from), p.to)
	return plotLeft + float64(t-p.from)/float64(p.to-p.from)*(plotRight-plotLeft)
}

func (p *plot) text(b *strings.Builder, x, y, size float64, colour, anchor, extra, s string) {
	fmt.Fprintf(b, `<text x="%.1f" y="%.1f" font-size="%g" fill="%s" text-anchor="%s"%s>%s</text>`+"\n", x, y, size, colour, anchor, extra, safe(s))
}

func safe(s string) string { return html.EscapeString(plain(s)) }

// header is the title, the notices, and how it ended.
func (p *plot) header() {
	p.text(&p.b, 16, 28, 18, inkDark, "start", ` font-weight="bold"`, cmp.Or(p.r.Name, "boot"))
	p.y = 48
	for _, l := range fold(plain(p.r.headline()), 150) {
		p.text(&p.b, 16, p.y, 12, inkSoft, "start", "", l)
		p.y += 16
	}
	for _, n := range p.r.Notices {
		for _, l := range fold(plain("! "+n), 150) {
			p.text(&p.b, 16, p.y, 12, inkBad, "start", "", l)
			p.y += 16
		}
	}
	p.y += 22 // the legend goes here
	p.y += markerRoom
	p.top = p.y
	p.y += 4
}

// Colours.
const (
	inkDark  = "#1f2933"
	inkSoft  = "#52606d"
	inkFaint = "#9aa5b1"
	inkBad   = "#b42318"
	inkGood  = "#1a7f37"
	inkWork  = "#3d7ea6"
	inkCrit  = "#d1242f"
	inkOther = "#7048a8"
	inkIdle  = "#d9882b"
)

// rows draws the units by stage.
func (p *plot) rows() {
	for i, stage := range p.r.stages() {
		if i > 0 {
			p.y += 4
		}
		top := p.y
		p.text(&p.b, 16, p.y+14, 12, inkSoft, "start", ` font-weight="bold"`, stage)
		fmt.Fprintf(&p.b, `<line x1="16" y1="%.1f" x2="%d" y2="%.1f" stroke="#cbd2d9"/>`+"\n", p.y+plotHead-1, plotRight, p.y+plotHead-1)
		p.y += plotHead
		for j := range p.r.Units {
			if u := &p.r.Units[j]; u.Stage == stage {
				p.unit(u)
			}
		}
		if i%2 == 1 {
			fmt.Fprintf(&p.under, `<rect x="8" y="%.1f" width="%d" height="%.1f" fill="#f5f7fa"/>`+"\n", top, PlotWidth-16, p.y-top)
		}
	}
	p.bottom = p.y + 4
	p.y = p.bottom + 18
}

func (p *plot) unit(u *Unit) {
	mid := p.y + p.row/2
	p.at[u.ID] = mid
	p.symbol(u.State, 24, mid)
	colour, weight := inkDark, ""
	if u.Critical {
		weight = ` font-weight="bold"`
	}
	fmt.Fprintf(&p.b, `<g><title>%s</title>`, safe(fmt.Sprintf("%s: %s %s", u.ID, u.State, p.r.note(u, p.provided))))
	p.text(&p.b, 34, mid+p.font*0.36, p.font, colour, "start", weight, clip(plain(u.ID), int(float64(plotLeft-44)/(p.font*0.58))))
	p.b.WriteString("</g>\n")
	free := float64(plotLeft) // nothing is drawn right of it
	for i, s := range u.Spans {
		x2 := p.span(u, s, mid)
		if s.To == 0 || p.x(s.To)-p.x(s.From) >= 5 || i == 0 { // a look in passing holds no text up
			free = max(free, x2)
		}
	}
	p.note(u, mid, free)
	p.y += p.row
}

// span draws one stretch and returns where it ends.
func (p *plot) span(u *Unit, s Span, mid float64) float64 {
	to := s.To
	if to == 0 {
		to = p.to // it lasts
	}
	if s.From >= p.to {
		return 0
	}
	x1, x2 := p.x(s.From), p.x(to)
	w := x2 - x1
	h := p.row * 0.62
	switch s.Kind {
	case SpanWork:
		w = max(w, 1.5)
		stroke := ""
		if u.Critical {
			stroke = ` stroke="` + inkCrit + `" stroke-width="1.2"`
		}
		fmt.Fprintf(&p.b, `<rect x="%.1f" y="%.1f" width="%.1f" height="%.1f" fill="%s"%s/>`+"\n", x1, mid-h/2, w, h, inkWork, stroke)
	case SpanIdle:
		stroke := inkIdle
		if u.Critical {
			stroke = inkCrit
		}
		fmt.Fprintf(&p.b, `<rect x="%.1f" y="%.1f" width="%.1f" height="%.1f" fill="url(#idle)" stroke="%s" stroke-width="0.8"/>`+"\n", x1, mid-h/2, max(w, 1), h, stroke)
	case SpanRetry:
		fmt.Fprintf(&p.b, `<line x1="%.1f" y1="%.1f" x2="%.1f" y2="%.1f" stroke="%s" stroke-width="2" stroke-dasharray="2 3"/>`+"\n", x1, mid, x2, mid, inkIdle)
	case SpanBatch:
		fmt.Fprintf(&p.b, `<line x1="%.1f" y1="%.1f" x2="%.1f" y2="%.1f" stroke="%s" stroke-width="2"/>`+"\n", x1, mid, x2, mid, inkFaint)
	default:
		if w < 1 {
			return x1
		}
		h *= 0.72
		fmt.Fprintf(&p.b, `<rect x="%.1f" y="%.1f" width="%.1f" height="%.1f" fill="url(#need)"/>`+"\n", x1, mid-h/2, w, h)
	}
	return x1 + w
}

// note writes the reason of the longest wait into it, or behind the bars.
func (p *plot) note(u *Unit, mid, free float64) {
	size := p.font - 2
	if p.dense {
		size = p.font - 1.5
	}
	var best Span
	for _, s := range u.Spans {
		if s.To == 0 {
			s.To = p.to
		}
		s.To = min(s.To, p.to)
		said := s.Reason != "" || s.Kind == SpanNeed && (u.Critical || p.x(s.To)-p.x(s.From) > 60)
		if s.Kind != SpanWork && said && p.x(s.To)-p.x(s.From) > 14 && s.To-s.From > best.To-best.From {
			best = s
		}
	}
	took := ""
	if u.Took >= 50*time.Millisecond && !p.dense {
		took = seconds(u.Took)
	}
	text := best.text()
	if text == p.lastNote && text != "" && !u.Critical {
		text = "" // as in the row above
	} else if text != "" {
		p.lastNote = text
	}
	room := int((p.x(best.To) - p.x(best.From) - 10) / (size * 0.55))
	if text != "" && room >= min(len(text), 24) {
		text = clip(text, room)
		x := p.x(best.From) + 4
		fmt.Fprintf(&p.b, `<rect x="%.1f" y="%.1f" width="%.1f" height="%.1f" fill="#ffffff" fill-opacity="0.82"/>`+"\n",
			x-2, mid-size*0.62, float64(len(text))*size*0.54+5, size*1.25)
		p.text(&p.b, x, mid+size*0.36, size, inkDark, "start", "", text)
		text = ""
	}
	behind := took
	if text != "" {
		if behind != "" {
			behind += "; "
		}
		behind += text
	}
	if room := int((plotRight - free - 6) / (size * 0.55)); behind != "" && room >= len(took) && room >= 4 {
		p.text(&p.b, free+5, mid+size*0.36, size, inkSoft, "start", "", clip(behind, room))
	}
}

// text is what a wait is for.
func (s Span) text() string {
	switch {
	case s.From == 0 && s.To == 0:
		return ""
	case strings.Contains(s.For, " or ") && s.Reason != "":
		return s.Reason
	case s.For != "" && s.Reason != "":
		return s.For + ": " + s.Reason
	case s.For != "":
		return s.For
	}
	return s.Reason
}

// symbol shows a state as a shape: readable without colours.
func (p *plot) symbol(s State, x, y float64) {
	switch s {
	case Done:
		fmt.Fprintf(&p.b, `<circle cx="%.1f" cy="%.1f" r="3.6" fill="%s"/>`+"\n", x, y, inkGood)
	case Adopted:
		fmt.Fprintf(&p.b, `<circle cx="%.1f" cy="%.1f" r="3" fill="#ffffff" stroke="%s" stroke-width="1.6"/>`+"\n", x, y, inkGood)
	case Degraded, Lost:
		fmt.Fprintf(&p.b, `<path d="M%.1f %.1fl4.4 7.6h-8.8z" fill="%s"/>`+"\n", x, y-4.6, inkIdle)
	case Failed, Stuck:
		fmt.Fprintf(&p.b, `<path d="M%.1f %.1fl7 7m0-7l-7 7" stroke="%s" stroke-width="2" fill="none"/>`+"\n", x-3.5, y-3.5, inkCrit)
	case Running:
		fmt.Fprintf(&p.b, `<path d="M%.1f %.1fl7 4.2l-7 4.2z" fill="%s"/>`+"\n", x-3, y-4.2, inkWork)
	default:
		fmt.Fprintf(&p.b, `<rect x="%.1f" y="%.1f" width="7" height="2" fill="%s"/>`+"\n", x-3.5, y-1, inkFaint)
	}
}

// verticals draws the time axis and the lines that concern the whole boot.
func (p *plot) verticals() {
	step := tick(p.to - p.from)
	for t := p.from.Truncate(step) + step; t < p.to; t += step {
		x := p.x(t)
		fmt.Fprintf(&p.under, `<line x1="%.1f" y1="%.1f" x2="%.1f" y2="%.1f" stroke="#e4e7eb"/>`+"\n", x, p.top, x, p.bottom)
		p.text(&p.b, x, p.bottom+13, 11, inkSoft, "middle", "", label(t))
	}
	fmt.Fprintf(&p.b, `<line x1="%d" y1="%.1f" x2="%d" y2="%.1f" stroke="%s"/>`+"\n", plotLeft, p.bottom, plotRight, p.bottom, inkFaint)
	type mark struct {
		at     time.Duration
		colour string
		dash   string
		text   string
	}
	var marks []mark
	for i, g := range p.r.Generations {
		if i > 0 || len(p.r.Generations) > 1 {
			marks = append(marks, mark{g.Started, inkOther, "5 3", fmt.Sprintf("orchestrator %d", g.Gen)})
		}
	}
	if t := p.r.Ready; t > 0 {
		marks = append(marks, mark{t, inkGood, "", "ready " + seconds(t)})
	}
	if t := p.r.Settled; t > 0 && p.x(t)-p.x(p.r.Ready) > 2 {
		marks = append(marks, mark{t, inkSoft, "2 2", "settled " + seconds(t)})
	}
	if t := p.r.Origin + p.r.Budget; p.r.Budget > 0 && t <= p.to {
		marks = append(marks, mark{t, inkCrit, "6 3", "budget " + seconds(p.r.Budget)})
	}
	slices.SortStableFunc(marks, func(a, b mark) int { return cmp.Compare(a.at, b.at) })
	level, end := 0, [2]float64{}
	for _, m := range marks {
		if m.at > p.to {
			continue
		}
		x := p.x(m.at)
		width := float64(len(m.text)) * 6
		left := min(max(x-width/2, plotLeft), plotRight-width)
		if level = 0; left < end[0] {
			level = 1
		}
		end[level] = left + width + 8
		y := p.top - 8 - 14*float64(1-level)
		fmt.Fprintf(&p.under, `<line x1="%.1f" y1="%.1f" x2="%.1f" y2="%.1f" stroke="%s" stroke-width="1.4" stroke-dasharray="%s"/>`+"\n", x, y+3, x, p.bottom, m.colour, m.dash)
		p.text(&p.b, left+width/2, y, 11, m.colour, "middle", ` font-weight="bold"`, m.text)
	}
}

// critical ties the units of the critical path together.
func (p *plot) critical() {
	for i, l := range p.r.Critical {
		y, ok := p.at[l.Unit]
		if !ok {
			continue
		}
		if i > 0 && l.From <= p.to {
			before := p.r.Critical[i-1]
			x := p.x(l.From)
			if py, ok := p.at[before.Unit]; ok {
				bx := p.x(min(before.To, l.From))
				fmt.Fprintf(&p.over, `<path d="M%.1f %.1fH%.1fV%.1f" fill="none" stroke="%s" stroke-width="1.3"/>`+"\n", bx, py, x, y, inkCrit)
				fmt.Fprintf(&p.over, `<path d="M%.1f %.1fl2.6 -5h-5.2z" fill="%s"/>`+"\n", x, y+arrow(py, y), inkCrit)
			} else if before.Unit == "" && !before.Never {
				fmt.Fprintf(&p.over, `<path d="M%.1f %.1fl4.5 4.5l-4.5 4.5l-4.5 -4.5z" fill="%s"><title>%s came</title></path>`+"\n", x, y-4.5, inkCrit, safe(before.For))
			}
		}
	}
}

// arrow keeps an arrow's tip out of the row that it points to.
func arrow(from, to float64) float64 {
	if from < to {
		return -4
	}
	return 9
}

// tick is the distance of the axis' labels: about eight of them.
func tick(span time.Duration) time.Duration {
	for _, d := range []time.Duration{
		10 * time.Millisecond, 20 * time.Millisecond, 50 * time.Millisecond, 100 * time.Millisecond, 200 * time.Millisecond, 500 * time.Millisecond,
		time.Second, 2 * time.Second, 5 * time.Second, 10 * time.Second, 15 * time.Second, 30 * time.Second,
		time.Minute, 2 * time.Minute, 5 * time.Minute, 10 * time.Minute, 30 * time.Minute, time.Hour, 2 * time.Hour, 6 * time.Hour,
	} {
		if span/d <= 9 {
			return d
		}
	}
	return max(24*time.Hour, (span / 8).Truncate(24*time.Hour))
}

// label is a time on the axis.
func label(t time.Duration) string {
	switch {
	case t >= 10*time.Minute:
		return fmt.Sprintf("%d min", t/time.Minute)
	case t%time.Second == 0:
		return fmt.Sprintf("%d s", t/time.Second)
	}
	return strings.TrimRight(fmt.Sprintf("%.2f", t.Seconds()), "0") + " s"
}

// legend says what the shapes mean.
func (p *plot) legend() {
	y := p.top - markerRoom - 10
	x := 16.0
	item := func(shape, text string) {
		fmt.Fprintf(&p.b, `<g transform="translate(%.1f %.1f)">%s</g>`+"\n", x, y, shape)
		p.text(&p.b, x+28, y+4, 11, inkSoft, "start", "", text)
		x += 40 + float64(len(text))*5.7
	}
	item(`<rect y="-5" width="22" height="10" fill="`+inkWork+`"/>`, "at work")
	item(`<rect y="-5" width="22" height="10" fill="url(#idle)" stroke="`+inkIdle+`" stroke-width="0.8"/>`, "at work, waiting")
	item(`<rect y="-4" width="22" height="8" fill="url(#need)"/>`, "waiting for needs")
	item(`<line x2="22" stroke="`+inkIdle+`" stroke-width="2" stroke-dasharray="2 3"/>`, "until the next attempt")
	item(`<rect y="-5" width="22" height="10" fill="`+inkWork+`" stroke="`+inkCrit+`" stroke-width="1.6"/>`, "on the critical path")
	states := []struct {
		s    State
		text string
	}{{Done, "done"}, {Adopted, "adopted"}, {Degraded, "degraded, lost"}, {Failed, "failed, stuck"}}
	for _, st := range states {
		p.symbol(st.s, x+4, y)
		p.text(&p.b, x+13, y+4, 11, inkSoft, "start", "", st.text)
		x += 24 + float64(len(st.text))*5.7
	}
}

func (p *plot) svg() string {
	var b strings.Builder
	h := p.y + 6
	fmt.Fprintf(&b, `<svg xmlns="http://www.w3.org/2000/svg" width="%d" height="%.0f" viewBox="0 0 %d %.0f" font-family="DejaVu Sans, Verdana, Helvetica, Arial, sans-serif">`+"\n", PlotWidth, h, PlotWidth, h)
	b.WriteString(`<defs>
<pattern id="need" width="5" height="5" patternUnits="userSpaceOnUse" patternTransform="rotate(45)"><rect width="5" height="5" fill="#eef1f4"/><rect width="1.6" height="5" fill="#b8c2cc"/></pattern>
<pattern id="idle" width="5" height="5" patternUnits="userSpaceOnUse" patternTransform="rotate(-45)"><rect width="5" height="5" fill="#fdf0dc"/><rect width="1.8" height="5" fill="#e9a84f"/></pattern>
</defs>
<rect width="100%" height="100%" fill="#ffffff"/>
`)
	b.WriteString(p.under.String())
	b.WriteString(p.b.String())
	b.WriteString(p.over.String())
	b.WriteString("</svg>\n")
	return b.String()
}
