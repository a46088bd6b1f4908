"""Palette: the few colours of reports and pictures, told apart by the colour-blind, in light and dark."""

INK, MUTED, FAINT, GRID, PAPER = "#1d2125", "#5c646d", "#a3abb4", "#e3e6ea", "#ffffff"
LEADER, BASELINE, FIXED = "#0067a5", "#c24e00", "#00795a"
SERIES = (LEADER, BASELINE, FIXED, "#b0508c", "#8a6d00", "#3f9bd0", "#5b4fa0", MUTED)
DASHES = ("solid", "dash", "dot", "dashdot", "longdash")
LOW, MIDDLE, HIGH = "#f0b183", "#f4f5f6", "#8fc1e6"  # conflict, none, agreement

# What each colour becomes on a dark page.
DARK = {
    INK: "#e7e9ec",
    MUTED: "#a2aab3",
    FAINT: "#6c757f",
    GRID: "#31363c",
    PAPER: "#16191c",
    LEADER: "#5cb3ea",
    BASELINE: "#f0923e",
    FIXED: "#3cc39a",
    "#b0508c": "#e08abf",
    "#8a6d00": "#d8b93a",
    "#3f9bd0": "#9bd0f2",
    "#5b4fa0": "#a99bf0",
    LOW: "#8f4a16",
    MIDDLE: "#262a2f",
    HIGH: "#27618c",
}
