//! A window with a text and buttons.

use std::time::{Duration, Instant};

use x11rb::connection::Connection;
use x11rb::errors::{ConnectError, ConnectionError, ReplyError, ReplyOrIdError};
use x11rb::properties::{WmSizeHints, WmSizeHintsSpecification};
use x11rb::protocol::Event;
use x11rb::protocol::xproto::{
    Atom, AtomEnum, ChangeGCAux, Char2b, ConfigureWindowAux, ConnectionExt as _, CreateGCAux,
    CreateWindowAux, EventMask, Font, Gcontext, PropMode, Rectangle, StackMode, Visibility, WindowClass,
};
use x11rb::rust_connection::RustConnection;
use x11rb::wrapper::ConnectionExt as _;

/// Fonts, the best first; every X server has the last one.
const FONTS: [&[u8]; 2] = [b"-misc-fixed-medium-r-normal--20-*-*-*-c-*-iso8859-1", b"fixed"];
/// Characters of a line.
const WIDTH: usize = 48;
const MARGIN: u16 = 20;
/// A banner that is covered comes to the front again, but does not fight.
const PATIENCE: Duration = Duration::from_secs(1);

const PAPER: [u8; 3] = [0xf7, 0xf4, 0xe8];
const INK: [u8; 3] = [0x1d, 0x24, 0x2b];
const FACE: [u8; 3] = [0xdf, 0xd8, 0xc2];
const CHOSEN: [u8; 3] = [0x8a, 0x3b, 0x12];

/// What keys mean.
const TAB: u32 = 0xff09;
const RETURN: u32 = 0xff0d;
const KEYPAD_ENTER: u32 = 0xff8d;
const ESCAPE: u32 = 0xff1b;
const LEFT: u32 = 0xff51;
const RIGHT: u32 = 0xff53;

/// Why there is no window.
#[derive(Debug, thiserror::Error)]
pub(super) enum WindowError {
    #[error("{0}")]
    Connect(#[from] ConnectError),
    #[error("{0}")]
    Lost(#[from] ConnectionError),
    #[error("{0}")]
    Reply(#[from] ReplyError),
    #[error("{0}")]
    Id(#[from] ReplyOrIdError),
    #[error("the X server has no screen, or no font")]
    Poor,
}

/// What can be said with a click.
pub(super) struct Button<'a> {
    pub(super) text: &'a str,
    pub(super) code: u8,
}

#[derive(Clone, Copy)]
pub(super) enum Shape {
    /// In the middle, with a frame where there is a window manager. Return means the button of this number.
    Dialog { chosen: usize },
    /// At the upper edge, before everything else; by the pointer only, as it takes no keys away.
    Banner,
}

struct Placed {
    text: Vec<u8>,
    code: u8,
    area: Rectangle,
}

pub(super) struct Window {
    connection: RustConnection,
    id: u32,
    shape: Shape,
    lines: Vec<Vec<u8>>,
    buttons: Vec<Placed>,
    letters: Letters,
    ink: Gcontext,
    colors: [u32; 4],
    closing: Atom,
    raised: Instant,
}

/// How large the letters of the font are.
struct Letters {
    font: Font,
    ascent: u16,
    height: u16,
}

impl Window {
    pub(super) fn open(
        title: &str,
        text: &str,
        buttons: &[Button<'_>],
        shape: Shape,
    ) -> Result<Self, WindowError> {
        let (connection, number) = x11rb::connect(None)?;
        let screen = connection.setup().roots.get(number).ok_or(WindowError::Poor)?;
        let (root, visual_map, wide, high) =
            (screen.root, screen.default_colormap, screen.width_in_pixels, screen.height_in_pixels);
        let letters = letters(&connection)?;
        let lines: Vec<Vec<u8>> = wrap(text).iter().map(|line| latin(line)).collect();
        let color = |[red, green, blue]: [u8; 3]| {
            let wide = |part: u8| u16::from(part) * 257;
            let named = connection.alloc_color(visual_map, wide(red), wide(green), wide(blue))?.reply()?;
            Ok::<_, WindowError>(named.pixel)
        };
        let colors = [color(PAPER)?, color(INK)?, color(FACE)?, color(CHOSEN)?];

        let banner = matches!(shape, Shape::Banner);
        let mut text_width = 0;
        for line in &lines {
            text_width = text_width.max(letters.width(&connection, line)?);
        }
        let mut row = Vec::new();
        for button in buttons {
            let text = latin(button.text);
            let width = letters.width(&connection, &text)?.saturating_add(2 * MARGIN);
            row.push((text, button.code, width));
        }
        let row_width: u16 =
            row.iter().map(|(_, _, width)| width + MARGIN).sum::<u16>().saturating_sub(MARGIN);
        let line_height = letters.height + 4;
        let count = u16::try_from(lines.len()).unwrap_or(u16::MAX);
        let (text_height, button_height) = (line_height.saturating_mul(count), letters.height + 12);
        // A banner has its button beside the text, a dialog below.
        let (width, height, row_left, row_top) = if banner {
            let width = text_width + row_width + 3 * MARGIN;
            (width, text_height.max(button_height) + MARGIN, text_width + 2 * MARGIN, MARGIN / 2)
        } else {
            let width = text_width.max(row_width) + 2 * MARGIN;
            (
                width,
                text_height + button_height + 3 * MARGIN,
                width - row_width - MARGIN,
                text_height + 2 * MARGIN,
            )
        };
        let mut left = row_left;
        let buttons = row.into_iter().map(|(text, code, width)| {
            let area = Rectangle { x: signed(left), y: signed(row_top), width, height: button_height };
            left = left.saturating_add(width).saturating_add(MARGIN);
            Placed { text, code, area }
        });
        let buttons = buttons.collect();

        let x = signed(wide.saturating_sub(width) / 2);
        let y = if banner { 0 } else { signed(high.saturating_sub(height) / 3) };
        let id = connection.generate_id()?;
        let events = EventMask::EXPOSURE
            | EventMask::KEY_PRESS
            | EventMask::BUTTON_PRESS
            | EventMask::VISIBILITY_CHANGE
            | EventMask::STRUCTURE_NOTIFY;
        let attributes = CreateWindowAux::new()
            .background_pixel(colors[0])
            .border_pixel(colors[1])
            .override_redirect(u32::from(banner))
            .event_mask(events);
        connection.create_window(
            x11rb::COPY_DEPTH_FROM_PARENT,
            id,
            root,
            x,
            y,
            width,
            height,
            1,
            WindowClass::INPUT_OUTPUT,
            x11rb::COPY_FROM_PARENT,
            &attributes,
        )?;
        let closing = describe(&connection, id, title, (i32::from(x), i32::from(y)), (width, height))?;
        let ink = connection.generate_id()?;
        connection.create_gc(ink, id, &CreateGCAux::new().font(letters.font))?;
        connection.map_window(id)?;
        connection.flush()?;
        let raised = Instant::now();
        Ok(Self { connection, id, shape, lines, buttons, letters, ink, colors, closing, raised })
    }

    /// Waits until a button is chosen; the last one if the window is closed.
    pub(super) fn answer(mut self) -> Result<u8, WindowError> {
        let last = self.buttons.last().map_or(super::NO, |button| button.code);
        loop {
            match self.connection.wait_for_event()? {
                Event::Expose(expose) if expose.count == 0 => self.draw()?,
                Event::ButtonPress(press) => {
                    let hit =
                        self.buttons.iter().find(|button| holds(&button.area, press.event_x, press.event_y));
                    if let Some(button) = hit {
                        return Ok(button.code);
                    }
                }
                Event::KeyPress(press) => {
                    if let Some(code) = self.key(press.detail)? {
                        return Ok(code);
                    }
                }
                Event::ClientMessage(message) if message.data.as_data32().first() == Some(&self.closing) => {
                    return Ok(last);
                }
                Event::DestroyNotify(_) => return Ok(super::BROKEN),
                Event::VisibilityNotify(seen) if seen.state != Visibility::UNOBSCURED => self.raise()?,
                _ => {}
            }
        }
    }

    fn key(&mut self, code: u8) -> Result<Option<u8>, WindowError> {
        let Shape::Dialog { chosen } = self.shape else { return Ok(None) };
        let symbols = self.connection.get_keyboard_mapping(code, 1)?.reply()?.keysyms;
        match symbols.first().copied().unwrap_or_default() {
            ESCAPE => return Ok(self.buttons.last().map(|button| button.code)),
            RETURN | KEYPAD_ENTER => return Ok(self.buttons.get(chosen).map(|button| button.code)),
            TAB | LEFT | RIGHT => {
                let next = chosen.wrapping_add(1).checked_rem(self.buttons.len()).unwrap_or_default();
                self.shape = Shape::Dialog { chosen: next };
                self.draw()?;
            }
            _ => {}
        }
        Ok(None)
    }

    fn raise(&mut self) -> Result<(), WindowError> {
        if matches!(self.shape, Shape::Banner) && self.raised.elapsed() > PATIENCE {
            self.raised = Instant::now();
            self.connection
                .configure_window(self.id, &ConfigureWindowAux::new().stack_mode(StackMode::ABOVE))?;
            self.connection.flush()?;
        }
        Ok(())
    }

    fn draw(&self) -> Result<(), WindowError> {
        let [paper, ink, face, chosen_face] = self.colors;
        let line_height = self.letters.height + 4;
        let mut baseline = MARGIN + self.letters.ascent;
        for line in &self.lines {
            self.write(line, signed(MARGIN), signed(baseline), ink, paper)?;
            baseline = baseline.saturating_add(line_height);
        }
        for (number, button) in self.buttons.iter().enumerate() {
            let is_chosen = matches!(self.shape, Shape::Dialog { chosen } if chosen == number);
            let (front, back) = if is_chosen { (paper, chosen_face) } else { (ink, face) };
            self.connection.change_gc(self.ink, &ChangeGCAux::new().foreground(back))?;
            self.connection.poly_fill_rectangle(self.id, self.ink, &[button.area])?;
            let x = button.area.x.saturating_add(signed(MARGIN));
            let y = button.area.y.saturating_add(6).saturating_add(signed(self.letters.ascent));
            self.write(&button.text, x, y, front, back)?;
        }
        self.connection.flush()?;
        Ok(())
    }

    fn write(&self, text: &[u8], x: i16, y: i16, front: u32, back: u32) -> Result<(), WindowError> {
        let colors = ChangeGCAux::new().foreground(front).background(back);
        self.connection.change_gc(self.ink, &colors)?;
        self.connection.image_text8(self.id, self.ink, x, y, text)?;
        Ok(())
    }
}

impl Letters {
    fn width(&self, connection: &RustConnection, text: &[u8]) -> Result<u16, WindowError> {
        let wide: Vec<Char2b> = text.iter().map(|letter| Char2b { byte1: 0, byte2: *letter }).collect();
        let extents = connection.query_text_extents(self.font, &wide)?.reply()?;
        Ok(u16::try_from(extents.overall_width).unwrap_or_default())
    }
}

fn letters(connection: &RustConnection) -> Result<Letters, WindowError> {
    for name in FONTS {
        let font = connection.generate_id()?;
        if connection.open_font(font, name)?.check().is_ok() {
            let known = connection.query_font(font)?.reply()?;
            let part = |size: i16| u16::try_from(size).unwrap_or_default();
            let (ascent, descent) = (part(known.font_ascent), part(known.font_descent));
            return Ok(Letters { font, ascent, height: ascent.saturating_add(descent) });
        }
    }
    Err(WindowError::Poor)
}

/// Tells window managers what it is; the result is what they send when it is closed.
fn describe(
    connection: &RustConnection,
    id: u32,
    title: &str,
    at: (i32, i32),
    (width, height): (u16, u16),
) -> Result<Atom, WindowError> {
    let atom =
        |name: &str| Ok::<_, WindowError>(connection.intern_atom(false, name.as_bytes())?.reply()?.atom);
    let closing = atom("WM_DELETE_WINDOW")?;
    let replace = PropMode::REPLACE;
    connection.change_property8(replace, id, AtomEnum::WM_NAME, AtomEnum::STRING, title.as_bytes())?;
    connection.change_property8(replace, id, AtomEnum::WM_CLASS, AtomEnum::STRING, b"qvd-vma\0QVD\0")?;
    for (property, value) in [
        ("_NET_WM_WINDOW_TYPE", "_NET_WM_WINDOW_TYPE_DIALOG"),
        ("_NET_WM_STATE", "_NET_WM_STATE_ABOVE"),
        ("WM_PROTOCOLS", "WM_DELETE_WINDOW"),
    ] {
        connection.change_property32(replace, id, atom(property)?, AtomEnum::ATOM, &[atom(value)?])?;
    }
    let size = (i32::from(width), i32::from(height));
    let hints = WmSizeHints {
        position: Some((WmSizeHintsSpecification::ProgramSpecified, at.0, at.1)),
        size: Some((WmSizeHintsSpecification::ProgramSpecified, size.0, size.1)),
        min_size: Some(size),
        max_size: Some(size),
        ..WmSizeHints::new()
    };
    hints.set_normal_hints(connection, id)?;
    Ok(closing)
}

fn holds(area: &Rectangle, x: i16, y: i16) -> bool {
    let within =
        |at: i16, from: i16, size: u16| at >= from && i32::from(at) < i32::from(from) + i32::from(size);
    within(x, area.x, area.width) && within(y, area.y, area.height)
}

fn signed(size: u16) -> i16 {
    i16::try_from(size).unwrap_or(i16::MAX)
}

/// The letters that the font has.
fn latin(text: &str) -> Vec<u8> {
    text.chars().map(|c| u8::try_from(u32::from(c)).unwrap_or(b'?')).collect()
}

/// Lines of words; a word that is too long is cut.
fn wrap(text: &str) -> Vec<String> {
    let mut lines = vec![String::new()];
    for word in text.split_whitespace() {
        let word: String = word.chars().take(WIDTH).collect();
        let Some(line) = lines.last_mut() else { break };
        if line.is_empty() {
            line.push_str(&word);
        } else if line.chars().count() + 1 + word.chars().count() <= WIDTH {
            line.push(' ');
            line.push_str(&word);
        } else {
            lines.push(word);
        }
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_keep_their_length() {
        let lines = wrap(&format!("ann wants to see your screen {} and more", "x".repeat(200)));
        assert!(lines.len() == 3 && lines.iter().all(|line| line.len() <= WIDTH), "{lines:?}");
        assert_eq!(latin("añ€"), [b'a', 0xf1, b'?']);
    }

    #[test]
    fn an_area_has_edges() {
        let area = Rectangle { x: 10, y: 20, width: 5, height: 5 };
        assert!(holds(&area, 10, 20) && holds(&area, 14, 24));
        assert!(!holds(&area, 15, 20) && !holds(&area, 9, 20) && !holds(&area, 12, 25));
    }
}
