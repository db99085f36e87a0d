package plan

import (
	"fmt"
	"html"
	"io"
	"strings"
)

// Measures of the drawing, in pixels.
const (
	boxW, boxH = 190, 26
	gapX, gapY = 70, 12
	margin     = 24
	headH      = 34
)

// SVG draws the graph: a column for each step of the longest chain of needs,
// a box a unit, a line a need (dashed: after). ready is left out: it comes
// after everything.
func (p *Plan) SVG(w io.Writer) error {
	provider := p.providers()
	level := levels(p, provider)
	rows := map[int]int{}
	type place struct{ x, y int }
	at := map[string]place{}
	width, height := 0, 0
	for i := range p.Units {
		u := &p.Units[i]
		if u.ID == ReadyID {
			continue
		}
		l := level[u.ID]
		pl := place{margin + l*(boxW+gapX), margin + headH + rows[l]*(boxH+gapY)}
		rows[l]++
		at[u.ID] = pl
		width, height = max(width, pl.x+boxW+margin), max(height, pl.y+boxH+margin)
	}
	b := &strings.Builder{}
	fmt.Fprintf(b, `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 %d %d" width="%d" height="%d" font-family="sans-serif" font-size="12">`+"\n", width, height, width, height)
	fmt.Fprintf(b, `<rect width="100%%" height="100%%" fill="#ffffff"/>`+"\n")
	fmt.Fprintf(b, `<text x="%d" y="%d" font-size="15" fill="#222222">%s: %d units</text>`+"\n", margin, margin+6, html.EscapeString(p.Name), len(p.Units)-1)
	for i := range p.Units {
		u := &p.Units[i]
		to, ok := at[u.ID]
		if !ok {
			continue
		}
		for _, n := range u.Needs {
			dash := ""
			if n.Mode == After {
				dash = ` stroke-dasharray="4 3"`
			}
			for _, r := range n.AnyOf {
				pr := provider[r]
				if pr == nil {
					continue
				}
				from := at[pr.ID]
				x1, y1, x2, y2 := from.x+boxW, from.y+boxH/2, to.x, to.y+boxH/2
				fmt.Fprintf(b, `<path d="M%d %dC%d %d %d %d %d %d" fill="none" stroke="#9aa5b1"%s/>`+"\n", x1, y1, x1+gapX/2, y1, x2-gapX/2, y2, x2, y2, dash)
			}
		}
	}
	for i := range p.Units {
		u := &p.Units[i]
		if pl, ok := at[u.ID]; ok {
			fmt.Fprintf(b, `<rect x="%d" y="%d" width="%d" height="%d" rx="4" fill="%s" stroke="#52606d"/>`+"\n", pl.x, pl.y, boxW, boxH, stageColour(u.Stage))
			fmt.Fprintf(b, `<text x="%d" y="%d" fill="#1f2933">%s</text><title>%s</title>`+"\n", pl.x+8, pl.y+17, html.EscapeString(clip(u.ID, 28)), html.EscapeString(u.ID))
		}
	}
	b.WriteString("</svg>\n")
	_, err := io.WriteString(w, b.String())
	return err
}

// levels is the length of the longest chain of providers below each unit.
func levels(p *Plan, provider map[Resource]*Unit) map[string]int {
	memo := map[string]int{}
	var of func(u *Unit) int
	of = func(u *Unit) int {
		if l, ok := memo[u.ID]; ok {
			return l
		}
		memo[u.ID] = 0
		l := 0
		for _, n := range u.Needs {
			for _, r := range n.AnyOf {
				if pr := provider[r]; pr != nil {
					l = max(l, of(pr)+1)
				}
			}
		}
		memo[u.ID] = l
		return l
	}
	for i := range p.Units {
		of(&p.Units[i])
	}
	return memo
}

func stageColour(s Stage) string {
	switch s {
	case Network:
		return "#dbeafe"
	case Time:
		return "#e0e7ff"
	case Keys:
		return "#fef3c7"
	case Unlock:
		return "#fde2e2"
	case Fabrics:
		return "#ede9fe"
	case Storage:
		return "#d1fae5"
	case Services:
		return "#cffafe"
	}
	return "#f1f5f9"
}

func clip(s string, n int) string {
	if len(s) <= n {
		return s
	}
	return s[:n-2] + ".."
}
